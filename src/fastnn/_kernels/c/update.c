#include "update.h"
#include <math.h>
#include <string.h>

enum { CHUNK = FASTNN_UPDATE_CHUNK };

static int has_squares(const fastnn_update *u) {
    return u->check_finite || u->clip_norm < INFINITY;
}

int fastnn_update_phases(const fastnn_update *u) { return has_squares(u) + 1 + u->has_finish; }

static ptrdiff_t larger(ptrdiff_t a, ptrdiff_t b) { return a > b ? a : b; }
static ptrdiff_t smaller(ptrdiff_t a, ptrdiff_t b) { return a < b ? a : b; }

/* The index of the first segment that ends after element number `at`. */
static ptrdiff_t segment_at(const fastnn_update *u, ptrdiff_t at) {
    ptrdiff_t low = 0, high = u->segment_count;
    while (low < high) {
        ptrdiff_t middle = low + (high - low) / 2;
        if (u->segments[middle].first + u->segments[middle].n <= at)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Room for up to a chunk of a gradient, in whole vectors. */
typedef struct {
    _Alignas(64) char bytes[CHUNK * sizeof(double) + 64];
} piece;

/* Returns p[1] for a kernel that reads elements [from, to) of a gradient, up to a chunk, within
 * clip_value and times `scale`: they are in `room`. */
static void *clip(const fastnn_update *u, const fastnn_segment *s, double scale, ptrdiff_t from,
                  ptrdiff_t to, piece *room) {
    const fastnn_rule *rule = &u->rules[s->rule];
    fastnn_args args = {.p = {room->bytes - from * rule->gradient_bytes, s->p[1]},
                        .s = {u->clip_value, scale}};
    rule->clip(&args, from, to, NULL);
    return args.p[0];
}

/* Adds to `sums` those of elements [from, to) of a gradient. Squares are of what clip_value leaves,
 * times `scale`; whether all is finite is asked of the gradient itself. */
static void square_clipped(const fastnn_update *u, const fastnn_segment *s, double scale,
                           double *sums, ptrdiff_t from, ptrdiff_t to) {
    piece room;
    for (ptrdiff_t border; from < to; from = border) {
        double own[2] = {0}, within[2] = {0};
        border = smaller(from + CHUNK, to);
        fastnn_args args = {.p = {own, s->p[1]}};
        u->rules[s->rule].square_sum(&args, from, border, NULL);
        args.p[0] = within;
        args.p[1] = clip(u, s, scale, from, border, &room);
        u->rules[s->rule].square_sum(&args, from, border, NULL);
        sums[0] += within[0];
        sums[1] += own[1];
    }
}
static void square(const fastnn_update *u, const fastnn_segment *s, double scale, double *sums,
                   ptrdiff_t from, ptrdiff_t to) {
    fastnn_args args = {.p = {sums, s->p[1]}};
    if (u->clip_value < INFINITY || scale != 1)
        square_clipped(u, s, scale, sums, from, to);
    else
        u->rules[s->rule].square_sum(&args, from, to, NULL);
}

/* What a gradient is multiplied by: `first`, a power of two, which is 1 unless `factor` alone would
 * be too small a number for float. */
typedef struct {
    double first, factor;
} scaling;

/* Runs a rule over elements [from, to), their gradients within clip_value and scaled by `first`.
 * Out of line, for its room would belong to every step. */
__attribute__((noinline)) static void step_clipped(const fastnn_update *u, const fastnn_segment *s,
                                                   double first, fastnn_args *args, ptrdiff_t from,
                                                   ptrdiff_t to) {
    piece room;
    for (ptrdiff_t border; from < to; from = border) {
        border = smaller(from + CHUNK, to);
        args->p[1] = clip(u, s, first, from, border, &room);
        u->rules[s->rule].step(args, from, border, NULL);
    }
}
static inline void step(const fastnn_update *u, const fastnn_segment *s, double first,
                        fastnn_args *args, ptrdiff_t from, ptrdiff_t to) {
    if (u->clip_value < INFINITY || first != 1)
        step_clipped(u, s, first, args, from, to);
    else
        u->rules[s->rule].step(args, from, to, NULL);
}

/* Sums the squares of the gradients, chunk by chunk. */
static void square_chunks(fastnn_update *u, ptrdiff_t begin, ptrdiff_t end) {
    ptrdiff_t i = segment_at(u, begin * CHUNK);
    for (ptrdiff_t chunk = begin; chunk < end; chunk++) {
        ptrdiff_t from = chunk * CHUNK, to = from + CHUNK;
        double *sums = u->sums + 2 * chunk;
        sums[0] = sums[1] = 0;
        for (; i < u->segment_count && u->segments[i].first < to; i++) {
            const fastnn_segment *s = &u->segments[i];
            ptrdiff_t last = smaller(to - s->first, s->n);
            square(u, s, 1, sums, larger(from - s->first, 0), last);
            if (last < s->n) break;
        }
    }
}

/* How many rows of a sparse segment are to be updated, and which the k-th of them is. */
static ptrdiff_t row_count(const fastnn_segment *s) {
    return s->rows[0] < 0 ? s->n / s->row_size : (ptrdiff_t)s->rows[0];
}
static ptrdiff_t row_at(const fastnn_segment *s, ptrdiff_t k) {
    return s->rows[0] < 0 ? k : (ptrdiff_t)s->rows[1 + k];
}

/* The same sums for the rows of the sparse segments, each by one thread. */
static void square_rows(fastnn_update *u, int thread, int threads) {
    for (ptrdiff_t i = thread; i < u->sparse_count; i += threads) {
        const fastnn_segment *s = &u->segments[u->segment_count + i];
        double *sums = u->sums + 2 * (fastnn_update_chunks(u->elements) + i);
        sums[0] = sums[1] = 0;
        for (ptrdiff_t k = 0; k < row_count(s); k++) {
            const ptrdiff_t from = row_at(s, k) * s->row_size;
            square(u, s, 1, sums, from, from + s->row_size);
        }
    }
}

/* The norm of all gradients times `scale`, by one thread. */
static double scaled_norm(const fastnn_update *u, double scale) {
    double sums[2] = {0};
    for (ptrdiff_t i = 0; i < u->segment_count; i++)
        square(u, &u->segments[i], scale, sums, 0, u->segments[i].n);
    for (ptrdiff_t i = 0; i < u->sparse_count; i++) {
        const fastnn_segment *s = &u->segments[u->segment_count + i];
        for (ptrdiff_t k = 0; k < row_count(s); k++) {
            const ptrdiff_t from = row_at(s, k) * s->row_size;
            square(u, s, scale, sums, from, from + s->row_size);
        }
    }
    return sqrt(sums[0]);
}

/* Adds up the chunks' sums; every thread does, and gets the same. Returns what brings the norm
 * within clip_norm, NaN for a norm that is none, or a factor of -1 if the step must not be taken. */
static scaling clip_scaling(fastnn_update *u, int thread) {
    double squares = 0, finite = 0, first = 1;
    ptrdiff_t count = fastnn_update_chunks(u->elements) + u->sparse_count;
    for (ptrdiff_t i = 0; i < count; i++) {
        squares += u->sums[2 * i];
        finite += u->sums[2 * i + 1];
    }
    double norm = sqrt(squares);
    if (isinf(norm) && !isnan(finite)) { /* squares of large doubles */
        first = 0x1p-540;
        norm = scaled_norm(u, first);
    }
    int failed = u->check_finite && isnan(finite);
    if (thread == 0) {
        u->grad_norm = norm / first;
        u->failed = failed;
    }
    if (failed) return (scaling){1, -1};
    if (norm / first <= u->clip_norm) return (scaling){1, 1};
    const double factor = u->clip_norm / norm;
    if (first == 1 && factor < 0x1p-100) return (scaling){0x1p-64, 0x1p64 * factor};
    return (scaling){first, factor};
}

static const double *scalars(const fastnn_update *u, ptrdiff_t rule) {
    return u->scalars + (u->step * u->rule_count + rule) * FASTNN_SCALARS;
}

/* A tensor that lies within one chunk has one thread and one partial norm: LAMB finishes it while
 * it is in cache. */
static int within_chunk(const fastnn_segment *s) {
    return s->n <= CHUNK && s->first / CHUNK == (s->first + s->n - 1) / CHUNK;
}

/* ‖parameter‖ / ‖update‖ of one tensor, or 1 where either is zero. */
static double trust_ratio(const fastnn_update *u, const fastnn_segment *s) {
    ptrdiff_t pieces = (s->first + s->n - 1) / CHUNK - s->first / CHUNK + 1;
    double parameter = 0, change = 0;
    for (ptrdiff_t i = 0; i < pieces; i++) {
        parameter += u->norms[2 * (s->slot + i)];
        change += u->norms[2 * (s->slot + i) + 1];
    }
    return parameter > 0 && change > 0 ? sqrt(parameter) / sqrt(change) : 1;
}

/* LAMB's first half over elements [from, to) of a tensor, with one pair of norms per chunk. */
static void step_pieces(const fastnn_update *u, const fastnn_segment *s, fastnn_args *args,
                        double first, ptrdiff_t from, ptrdiff_t to) {
    const fastnn_rule *rule = &u->rules[s->rule];
    _Alignas(64) char kept[CHUNK * sizeof(double) + 64];
    if (within_chunk(s)) args->p[FASTNN_UPDATE_KEPT] = kept;
    while (from < to) {
        ptrdiff_t chunk = (s->first + from) / CHUNK;
        ptrdiff_t border = smaller((chunk + 1) * CHUNK - s->first, to);
        double *norms = u->norms + 2 * (s->slot + chunk - s->first / CHUNK);
        norms[0] = norms[1] = 0;
        args->p[FASTNN_UPDATE_NORMS] = norms;
        step(u, s, first, args, from, border);
        from = border;
    }
    if (within_chunk(s)) {
        args->s[FASTNN_UPDATE_RATIO] = trust_ratio(u, s);
        rule->finish(args, 0, s->n, NULL);
        args->p[FASTNN_UPDATE_KEPT] = NULL;
    }
}

/* How many of n elements to take first so that the others start on a cache line, as far as that
 * pays: a vector that lies across two lines costs two accesses. */
static ptrdiff_t head(const fastnn_rule *rule, const char *p, ptrdiff_t n) {
    if (n < 1024 || !rule->item_bytes) return 0;
    return (ptrdiff_t)(-(uintptr_t)p % 64) / rule->item_bytes;
}

/* The phases `step` and `finish` over elements [begin, end). */
static void update_range(const fastnn_update *u, ptrdiff_t begin, ptrdiff_t end, scaling scale,
                         int finish) {
    fastnn_args args = {0};
    const fastnn_rule *rule = NULL;
    args.n[0] = u->t + u->step;
    for (ptrdiff_t i = segment_at(u, begin); i < u->segment_count; i++) {
        const fastnn_segment *s = &u->segments[i];
        if (s->first >= end) break;
        ptrdiff_t from = larger(begin - s->first, 0), to = smaller(end - s->first, s->n);
        if (rule != &u->rules[s->rule]) {
            rule = &u->rules[s->rule];
            memcpy(args.s, scalars(u, s->rule), sizeof args.s);
            args.s[0] *= scale.factor;
        }
        memcpy(args.p, s->p, sizeof s->p);
        args.n[1] = s->first;
        if (!rule->finish) {
            if (finish) continue;
            ptrdiff_t middle =
                from + head(rule, (char *)s->p[0] + from * rule->item_bytes, to - from);
            if (from < middle) step(u, s, scale.first, &args, from, middle);
            step(u, s, scale.first, &args, middle, to);
        } else if (!finish) {
            step_pieces(u, s, &args, scale.first, from, to);
        } else if (!within_chunk(s)) {
            args.s[FASTNN_UPDATE_RATIO] = trust_ratio(u, s);
            rule->finish(&args, from, to, NULL);
        }
    }
}

/* The phase `step` over a thread's share of the listed rows. */
static void update_rows(const fastnn_update *u, int thread, int threads, scaling scale) {
    fastnn_args args = {0};
    args.n[0] = u->t + u->step;
    for (ptrdiff_t i = u->segment_count; i < u->segment_count + u->sparse_count; i++) {
        const fastnn_segment *s = &u->segments[i];
        const ptrdiff_t count = row_count(s), end = count * (thread + 1) / threads;
        memcpy(args.p, s->p, sizeof s->p);
        memcpy(args.s, scalars(u, s->rule), sizeof args.s);
        args.s[0] *= scale.factor;
        args.n[1] = s->first;
        for (ptrdiff_t k = count * thread / threads; k < end; k++) {
            const ptrdiff_t from = row_at(s, k) * s->row_size;
            step(u, s, scale.first, &args, from, from + s->row_size);
        }
    }
}

void fastnn_update_phase(fastnn_update *u, int phase, int thread, int threads) {
    ptrdiff_t chunks = fastnn_update_chunks(u->elements);
    ptrdiff_t begin = chunks * thread / threads, end = chunks * (thread + 1) / threads;
    int squares = has_squares(u);
    if (squares && phase == 0) {
        square_chunks(u, begin, end);
        square_rows(u, thread, threads);
        return;
    }
    scaling scale = {1, 1};
    if (squares && phase == 1) {
        scale = clip_scaling(u, thread);
        if (scale.factor < 0) return;
    } else if (!squares && phase == 0 && thread == 0) {
        u->failed = 0;
    }
    int finish = phase > squares;
    if (finish && u->failed) return; /* a barrier lies between its writing and here */
    update_range(u, begin * CHUNK, end * CHUNK, scale, finish);
    if (!finish) update_rows(u, thread, threads, scale);
}
