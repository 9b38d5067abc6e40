/* Runs every kernel of every instruction set that this processor has on the cases that cases.py
 * wrote, with nothing of Python: for processors and systems on which that is not at hand. Those with
 * fused multiply-adds must give the same bits, here and on any other processor. */
#include "dispatch.h"
#include "memory.h"
#include <math.h>
#include <stdio.h>
#include <string.h>
#if __has_include(<valgrind/memcheck.h>)
#include <valgrind/memcheck.h>
#else
#define VALGRIND_MAKE_MEM_UNDEFINED(data, bytes) ((void)0)
#define VALGRIND_MAKE_MEM_DEFINED(data, bytes) ((void)0)
#define VALGRIND_MAKE_MEM_NOACCESS(data, bytes) ((void)0)
#endif

enum { GUARD = 64, FILL = 0xA5 };
enum { FLOAT, DOUBLE, BYTE, WORD, LONG };

typedef struct {
    char kernel[64];
    int32_t is_double, vector_bytes, outputs, inputs, accumulate, items, updates, same_bits;
    int64_t n[FASTNN_SIZES];
    double s[FASTNN_SCALARS];
} header;

typedef struct {
    int64_t code, count; /* of an input 0 and its bytes; -1 for NULL */
    const unsigned char *first, *want, *allowed;
    unsigned char *memory; /* with guards on both sides */
    size_t bytes;
} array;

static const size_t sizes[] = {4, 8, 1, 2, 8};

static double element(const array *a, int64_t i) {
    const unsigned char *p = a->memory + GUARD + (size_t)i * sizes[a->code];
    float f;
    double d;
    uint16_t w;
    int64_t l;
    switch (a->code) {
    case FLOAT:
        return memcpy(&f, p, sizeof f), f;
    case DOUBLE:
        return memcpy(&d, p, sizeof d), d;
    case BYTE:
        return *p;
    case WORD:
        return memcpy(&w, p, sizeof w), w;
    default:
        return memcpy(&l, p, sizeof l), (double)l;
    }
}

static double number(const unsigned char *p, int64_t i) {
    double d;
    return memcpy(&d, p + 8 * i, sizeof d), d;
}

/* What stands in an output counts only where the kernel adds to it or updates it. */
static void prepare(array *a, int is_read) {
    a->memory = fastnn_allocate(a->bytes + 2 * GUARD);
    memset(a->memory, FILL, a->bytes + 2 * GUARD);
    memcpy(a->memory + GUARD, a->first, a->bytes);
    VALGRIND_MAKE_MEM_NOACCESS(a->memory, GUARD);
    VALGRIND_MAKE_MEM_NOACCESS(a->memory + GUARD + a->bytes, GUARD);
    if (!is_read) VALGRIND_MAKE_MEM_UNDEFINED(a->memory + GUARD, a->bytes);
}

static int guards_hold(const array *a) {
    VALGRIND_MAKE_MEM_DEFINED(a->memory, GUARD);
    VALGRIND_MAKE_MEM_DEFINED(a->memory + GUARD + a->bytes, GUARD);
    for (size_t i = 0; i < GUARD; i++)
        if (a->memory[i] != FILL || a->memory[GUARD + a->bytes + i] != FILL) return 0;
    return 1;
}

static const char *compare(const array *a, int64_t *at) {
    if (!guards_hold(a)) return "memory beside it was written";
    for (*at = 0; *at < a->count; ++*at) {
        const double got = element(a, *at), want = number(a->want, *at);
        if (got == want || (isnan(got) && isnan(want))) continue;
        if (!(fabs(got - want) <= number(a->allowed, *at))) return "wrong value";
    }
    return NULL;
}

/* FNV-1a of an output's bits, going on from `hash`; all NaNs are one. */
static uint64_t digest(uint64_t hash, const array *a) {
    for (int64_t i = 0; i < a->count; i++) {
        const size_t size = sizes[a->code];
        const int is_nan = a->code <= DOUBLE && isnan(element(a, i));
        for (size_t k = 0; k < size; k++)
            hash = (hash ^ (is_nan ? 0 : a->memory[GUARD + (size_t)i * size + k])) * 0x100000001b3;
    }
    return hash;
}

/* Runs one case; returns whether it went well. */
static int run(const header *h, array *arrays, void *scratch, uint64_t *hash) {
    const fastnn_entry *entry = fastnn_active->entries;
    while (strcmp(entry->name, h->kernel)) entry++;
    fastnn_args args = {.accumulate = h->accumulate};
    for (int i = 0; i < h->outputs + h->inputs; i++) {
        array *a = &arrays[i];
        if (a->code < 0) continue;
        prepare(a, i >= h->outputs || h->updates);
        args.p[i] = a->memory + GUARD;
    }
    for (int i = 0; i < FASTNN_SIZES; i++) args.n[i] = (ptrdiff_t)h->n[i];
    memcpy(args.s, h->s, sizeof args.s);
    VALGRIND_MAKE_MEM_UNDEFINED(scratch, FASTNN_SCRATCH);
    (h->is_double ? entry->f64 : entry->f32)(&args, 0, h->items, scratch);
    int good = 1;
    for (int i = 0; i < h->outputs + h->inputs; i++) {
        array *a = &arrays[i];
        if (a->code < 0) continue;
        int64_t at = 0;
        const char *wrong = NULL;
        if (i < h->outputs) {
            wrong = compare(a, &at);
            *hash = digest(*hash, a);
        } else if (!guards_hold(a) || memcmp(a->memory + GUARD, a->first, a->bytes))
            wrong = "an input was written";
        if (wrong) {
            printf("%s, %s, float%d, %d items, argument %d: %s", fastnn_active->isa, h->kernel,
                   h->is_double ? 64 : 32, h->items, i, wrong);
            if (i < h->outputs && at < a->count)
                printf(" at %d: %.17g, not %.17g", (int)at, element(a, at), number(a->want, at));
            printf("\n");
            good = 0;
        }
        fastnn_free(a->memory);
    }
    return good;
}

/* The arrays of a case, and where the next one begins. */
static const unsigned char *parse(const unsigned char *p, const header *h, array *arrays) {
    for (int i = 0; i < h->outputs + h->inputs; i++) {
        array *a = &arrays[i];
        memcpy(&a->code, p, 16);
        a->first = p += 16;
        if (i >= h->outputs || a->code < 0) {
            p += a->bytes = (size_t)a->count;
            continue;
        }
        a->bytes = (size_t)a->count * sizes[a->code];
        a->want = p += a->bytes;
        a->allowed = p += 8 * a->count;
        p += 8 * a->count;
    }
    return p;
}

/* Whether multiply-adds of the instruction set in use are fused, so that its bits are promised. */
static int is_fused(void) {
#if defined(__aarch64__)
    return 1;
#else
    return !strcmp(fastnn_active->isa, "v3") || !strcmp(fastnn_active->isa, "v4");
#endif
}

int main(int count, char **arguments) {
    FILE *file = count > 1 ? fopen(arguments[1], "rb") : NULL;
    if (!file) return fprintf(stderr, "usage: kernels FILE [BITS], FILE from cases.py\n"), 2;
    fseek(file, 0, SEEK_END);
    const size_t bytes = (size_t)ftell(file);
    rewind(file);
    unsigned char *all = fastnn_allocate(bytes);
    void *scratch = fastnn_allocate(FASTNN_SCRATCH);
    /* digests of the outputs of a case, from another processor or the first instruction set */
    const size_t most = bytes / sizeof(header);
    uint64_t *bits = fastnn_allocate(most * sizeof *bits);
    if (!all || !scratch || !bits || fread(all, 1, bytes, file) != bytes) return 2;
    fclose(file);
    size_t known = 0;
    file = count > 2 ? fopen(arguments[2], "rb") : NULL;
    if (file) {
        known = fread(bits, sizeof *bits, most, file);
        fclose(file);
    }
    int64_t kernels;
    memcpy(&kernels, all, sizeof kernels);

    int passed = 0, failed = 0, same = 0, other = 0, supported;
    const char *isa;
    for (int i = 0; (isa = fastnn_variant(i, &supported)); i++) {
        if (!supported) {
            printf("%s: not on this processor\n", isa);
            continue;
        }
        fastnn_dispatch(isa);
        if (fastnn_active->count != kernels) return printf("a kernel without a case\n"), 1;
        size_t promised = 0;
        for (const unsigned char *p = all + 8; p < all + bytes;) {
            header h;
            array arrays[FASTNN_POINTERS] = {0};
            memcpy(&h, p, sizeof h);
            p = parse(p + sizeof h, &h, arrays);
            if (h.vector_bytes && h.vector_bytes != fastnn_active->vector_bytes) continue;
            uint64_t hash = 0xcbf29ce484222325;
            if (run(&h, arrays, scratch, &hash))
                passed++;
            else
                failed++;
            if (!h.same_bits || !is_fused()) continue;
            if (promised == known) bits[known++] = hash;
            if (bits[promised++] == hash) {
                same++;
            } else {
                other++;
                printf("%s, %s, float%d, %d items: other bits\n", isa, h.kernel,
                       h.is_double ? 64 : 32, h.items);
            }
        }
    }
    if (known && count > 2 && (file = fopen(arguments[2], "wb"))) {
        fwrite(bits, sizeof *bits, known, file);
        fclose(file);
    }
    if (same || other) printf("%d with the same bits, %d with others\n", same, other);
    printf("%d passed, %d failed\n", passed, failed);
    return failed || other;
}
