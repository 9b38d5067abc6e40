/* Runs programs, optimizer steps, barriers and predictions on threads of its own, for
 * ThreadSanitizer; and compares the results bit for bit
 * with those of one thread. Built by tools/sanitize. */
#include "program.c" /* for run_thread */

#include "memory.h"
#include "predict.h"
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

enum { MOST_THREADS = 4, STEPS = 6, MEETINGS = 120, PREDICTIONS = 20 };
enum { ROWS = 61, IN = 70, HIDDEN = 130, OUT = 5, WORDS = 40, WIDTH = 24, LONG = 10000 };

/* An entry of a program: a kernel, how it is shared, and the arguments. */
#define CALL(function, split, waits, items, ...) {{function, {__VA_ARGS__}}, split, waits, items}

/* A tensor with its gradient and two moments. */
#define TENSOR(name, n) float name[4][n]

typedef struct {
    float x[ROWS * IN], target[ROWS * OUT], h[ROWS * HIDDEN], y[ROWS * OUT], dy[ROWS * OUT];
    float dh[ROWS * HIDDEN], row_loss[ROWS];
    TENSOR(w1, HIDDEN *IN);
    TENSOR(b1, HIDDEN);
    TENSOR(w2, OUT *HIDDEN);
    TENSOR(b2, OUT);
    TENSOR(table, WORDS *WIDTH); /* of which only the rows in `used` are updated */
    TENSOR(other, LONG);         /* by LAMB */
    TENSOR(small, OUT);
    int64_t used[1 + WORDS];
    double losses[STEPS];
    double sums[2 * 64], norms[2 * 16], grad_norm;
} model;

static fastnn_kernel kernel(const char *name) {
    const fastnn_entry *entry = fastnn_active->entries;
    while (strcmp(entry->name, name)) entry++;
    return entry->f32;
}

static void fill(float *values, ptrdiff_t n, unsigned seed) {
    for (ptrdiff_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        values[i] = (float)(seed >> 8) / (1 << 24) - 0.5f;
    }
}

/* One part of a run, on a thread of its own. */
typedef struct {
    const fastnn_run *run;
    fastnn_team *team;
    int thread, threads;
} share;

static void *run_share(void *given) {
    share *s = given;
    if (s->thread == 0)
        fastnn_team_gather(s->team, s->threads);
    else
        fastnn_team_join(s->team, s->thread);
    run_thread(s->run, s->team, s->thread, s->threads);
    return NULL;
}

static void on_threads(void *(*function)(void *), void *parts, size_t part, int threads) {
    pthread_t started[MOST_THREADS];
    for (int i = 1; i < threads; i++)
        pthread_create(&started[i], NULL, function, (char *)parts + (size_t)i * part);
    function(parts);
    for (int i = 1; i < threads; i++) pthread_join(started[i], NULL);
}

static void execute(const fastnn_run *run, int threads) {
    static fastnn_team team;
    share shares[MOST_THREADS];
    memset(&team, 0, sizeof team);
    fastnn_team_join(&team, 0);
    for (int i = 0; i < threads; i++) shares[i] = (share){run, &team, i, threads};
    on_threads(run_share, shares, sizeof *shares, threads);
}

/* p: loss (double), row_loss (rows,)  n: rows. As a program's call to Python, on one thread. */
static void add_losses(const fastnn_args *a, ptrdiff_t begin, ptrdiff_t end, void *scratch) {
    (void)begin, (void)end, (void)scratch;
    *(double *)a->p[0] = fastnn_sum(a->p[1], a->n[0], 0);
}

static void segment(fastnn_segment *s, float *tensor, ptrdiff_t n, ptrdiff_t *first) {
    *s = (fastnn_segment){
        .p = {tensor, tensor + n, tensor + 2 * n, tensor + 3 * n}, .n = n, .first = *first};
    *first += n;
}

/* Some steps of a model of two products; only where threads own different things do calls wait. */
static void train(model *m, int threads, double clip_norm, double clip_value) {
    memset(m, 0, sizeof *m);
    fill(m->x, ROWS * IN, 1);
    fill(m->target, ROWS * OUT, 2);
    fill(m->w1[0], HIDDEN * IN, 3);
    fill(m->w2[0], OUT * HIDDEN, 4);
    fill(m->table[0], 2 * WORDS * WIDTH, 5); /* and the gradients, which stay */
    fill(m->other[0], 2 * LONG, 6);
    fill(m->small[0], 2 * OUT, 7);
    m->used[0] = 4;
    for (int i = 0; i < 4; i++) m->used[1 + i] = (int64_t)i * 9;

    const fastnn_call calls[] = {
        CALL(kernel("linear_forward"), FASTNN_BY_ROWS, 0, 1, .p = {m->h, m->x, m->w1[0], m->b1[0]},
             .n = {IN, HIDDEN}),
        CALL(kernel("relu_forward"), FASTNN_BY_ROWS, 0, HIDDEN, .p = {m->h, m->h}),
        CALL(kernel("linear_forward"), FASTNN_BY_ROWS, 0, 1, .p = {m->y, m->h, m->w2[0], m->b2[0]},
             .n = {HIDDEN, OUT}),
        CALL(kernel("mse_loss"), FASTNN_BY_ROWS, 0, 1, .p = {m->row_loss, m->dy, m->y, m->target},
             .n = {OUT}, .s = {1.0 / ROWS}),
        CALL(add_losses, FASTNN_SERIAL, 1, 1, .p = {NULL, m->row_loss}, .n = {ROWS}),
        CALL(kernel("linear_backward_input"), FASTNN_BY_ROWS, 1, 1, .p = {m->dh, m->dy, m->w2[0]},
             .n = {HIDDEN, OUT}),
        CALL(kernel("relu_backward"), FASTNN_BY_ROWS, 0, HIDDEN, .p = {m->dh, m->dh, m->h}),
        CALL(kernel("linear_backward_weight"), FASTNN_BY_ITEMS, 1, OUT,
             .p = {m->w2[1], m->b2[1], m->dy, m->h}, .n = {HIDDEN, OUT, ROWS}),
        CALL(kernel("linear_backward_weight"), FASTNN_BY_ITEMS, 0, HIDDEN,
             .p = {m->w1[1], m->b1[1], m->dh, m->x}, .n = {IN, HIDDEN, ROWS}),
    };
    enum { CALLS = sizeof calls / sizeof *calls };
    fastnn_call own[CALLS];
    memcpy(own, calls, sizeof calls);

    const fastnn_rule rules[] = {
        {kernel("adam_step"), NULL, kernel("square_sum"), kernel("clip"), 4, 4},
        {kernel("lamb_moments"), kernel("lamb_finish"), kernel("square_sum"), kernel("clip"), 4, 4},
    };
    const double scalars[2][FASTNN_SCALARS] = {
        {1, 0, 1e-2, 1, 0.9, 0.99, 1, 1e-8, 0},
        {1, 1e-2, 1e-2, 0.9, 0.99, 1, 1, 1e-6, 0},
    };
    double table[STEPS][2][FASTNN_SCALARS];
    for (int i = 0; i < STEPS; i++) memcpy(table[i], scalars, sizeof scalars);
    fastnn_segment segments[7];
    ptrdiff_t first = 0;
    segment(&segments[0], m->w1[0], HIDDEN * IN, &first);
    segment(&segments[1], m->b1[0], HIDDEN, &first);
    segment(&segments[2], m->w2[0], OUT * HIDDEN, &first);
    segment(&segments[3], m->b2[0], OUT, &first);
    segment(&segments[4], m->other[0], LONG, &first);
    segment(&segments[5], m->small[0], OUT, &first);
    segments[4].rule = segments[5].rule = 1;
    segments[5].slot = 8;
    const ptrdiff_t elements = first;
    segment(&segments[6], m->table[0], WORDS * WIDTH, &first);
    segments[6].rows = m->used;
    segments[6].row_size = WIDTH;
    fastnn_update update = {.segments = segments,
                            .segment_count = 6,
                            .sparse_count = 1,
                            .elements = elements,
                            .rules = rules,
                            .rule_count = 2,
                            .scalars = table[0][0],
                            .clip_norm = clip_norm,
                            .clip_value = clip_value,
                            .has_finish = 1,
                            .sums = m->sums,
                            .norms = m->norms};
    const int failed = 0;
    char *scratch = fastnn_allocate((size_t)threads * FASTNN_SCRATCH);
    const fastnn_run run = {.calls = own,
                            .count = CALLS,
                            .update = &update,
                            .rows = ROWS,
                            .threads = threads,
                            .scratch = scratch,
                            .failed = &failed};
    for (update.step = 0; update.step < STEPS; update.step++) {
        own[4].op.args.p[0] = &m->losses[update.step];
        execute(&run, threads);
    }
    m->grad_norm = update.grad_norm;
    fastnn_free(scratch);
}

/* The barrier alone: what a thread has written is what the others read behind it. */
typedef struct {
    fastnn_team *team;
    int *written;
    int thread, threads, good;
} guest;

static void *meet(void *given) {
    guest *g = given;
    g->good = 1;
    fastnn_team_join(g->team, g->thread);
    for (int i = 1; i <= MEETINGS; i++) {
        const struct timespec late = {0, 3000000}; /* so that the others go to sleep */
        if (i % 30 == 0 && i / 30 % g->threads == g->thread) nanosleep(&late, NULL);
        g->written[g->thread] = i;
        fastnn_team_wait(g->team, g->thread, g->threads);
        for (int k = 0; k < g->threads; k++) g->good &= g->written[k] == i;
        fastnn_team_wait(g->team, g->thread, g->threads);
    }
    return NULL;
}

static int meetings(int threads) {
    static fastnn_team team;
    int written[MOST_THREADS], good = 1;
    guest guests[MOST_THREADS];
    memset(&team, 0, sizeof team);
    for (int i = 0; i < threads; i++) guests[i] = (guest){&team, written, i, threads, 0};
    on_threads(meet, guests, sizeof *guests, threads);
    for (int i = 0; i < threads; i++) good &= guests[i].good;
    return good;
}

/* Threads that predict with one model at once. */
typedef struct {
    fastnn_frozen *frozen;
    const float *x, *want;
    int thread, good;
} caller;

static void *predict(void *given) {
    caller *c = given;
    float y[ROWS * OUT];
    c->good = 1;
    for (int i = 0; i < PREDICTIONS; i++) {
        const int rows = 1 + (7 * i + 13 * c->thread) % ROWS;
        fastnn_predict(c->frozen, c->x, rows, y);
        c->good &= !memcmp(y, c->want, (size_t)rows * OUT * sizeof *y);
    }
    return NULL;
}

static int predictions(model *m, int threads) {
    const fastnn_call calls[] = {
        CALL(kernel("linear_forward"), FASTNN_BY_ROWS, 0, 1, .p = {NULL, NULL, m->w1[0], m->b1[0]},
             .n = {IN, HIDDEN}),
        CALL(kernel("linear_forward"), FASTNN_BY_ROWS, 0, 1, .p = {NULL, NULL, m->w2[0], m->b2[0]},
             .n = {HIDDEN, OUT}),
    };
    const ptrdiff_t one = offsetof(fastnn_call, op.args), two = one + (ptrdiff_t)sizeof *calls;
    const fastnn_hole holes[] = {{one, 1, 0}, {two, 0, 0}, {one, 0, 0}, {two, 1, 0}};
    const fastnn_buffer hidden = {0, HIDDEN * sizeof(float)};
    fastnn_frozen frozen = {.calls = calls,
                            .call_count = 2,
                            .holes = holes,
                            .ends = {1, 2, 4, 4},
                            .buffers = &hidden,
                            .buffer_count = 1,
                            .most_rows = 16,
                            .x_bytes = IN * sizeof(float),
                            .y_bytes = OUT * sizeof(float)};
    fastnn_predict(&frozen, m->x, ROWS, m->y);
    caller callers[MOST_THREADS];
    int good = 1;
    for (int i = 0; i < threads; i++) callers[i] = (caller){&frozen, m->x, m->y, i, 0};
    on_threads(predict, callers, sizeof *callers, threads);
    for (int i = 0; i < threads; i++) good &= callers[i].good;
    fastnn_frozen_clear(&frozen);
    return good;
}

int main(void) {
    static model alone, shared;
    const double limits[][2] = {{INFINITY, INFINITY}, {0.1, INFINITY}, {0.1, 0.01}};
    int passed = 0, failed = 0;
    fastnn_dispatch(NULL);
    for (int threads = 2; threads <= MOST_THREADS; threads++) {
        for (int i = 0; i < 3; i++) {
            train(&alone, 1, limits[i][0], limits[i][1]);
            train(&shared, threads, limits[i][0], limits[i][1]);
            const int same = !memcmp(&alone, &shared, sizeof alone) &&
                             shared.losses[STEPS - 1] < 0.9 * shared.losses[0];
            if (!same) printf("training on %d threads: other numbers, limits %d\n", threads, i);
            same ? passed++ : failed++;
        }
        const int met = meetings(threads), predicted = predictions(&alone, threads);
        if (!met) printf("%d threads read before others have written\n", threads);
        if (!predicted) printf("predictions on %d threads: other numbers\n", threads);
        passed += met + predicted;
        failed += 2 - met - predicted;
    }
    printf("%d passed, %d failed\n", passed, failed);
    return failed > 0;
}
