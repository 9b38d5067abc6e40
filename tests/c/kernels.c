/* Runs every kernel of every instruction set that this processor has on the cases that cases.py
 * wrote, with nothing of Python: for processors and systems on which that is not at hand. */
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
    int32_t is_double, vector_bytes, outputs, inputs, accumulate, items, updates, unused;
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

/* Runs one case; returns whether it went well. */
static int run(const header *h, array *arrays, void *scratch) {
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
        if (i < h->outputs)
            wrong = compare(a, &at);
        else if (!guards_hold(a) || memcmp(a->memory + GUARD, a->first, a->bytes))
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

int main(int count, char **arguments) {
    FILE *file = count == 2 ? fopen(arguments[1], "rb") : NULL;
    if (!file) return fprintf(stderr, "usage: kernels FILE, which cases.py has written\n"), 2;
    fseek(file, 0, SEEK_END);
    const size_t bytes = (size_t)ftell(file);
    rewind(file);
    unsigned char *all = fastnn_allocate(bytes);
    void *scratch = fastnn_allocate(FASTNN_SCRATCH);
    if (!all || !scratch || fread(all, 1, bytes, file) != bytes) return 2;
    fclose(file);
    int64_t kernels;
    memcpy(&kernels, all, sizeof kernels);

    int passed = 0, failed = 0, supported;
    const char *isa;
    for (int i = 0; (isa = fastnn_variant(i, &supported)); i++) {
        if (!supported) {
            printf("%s: not on this processor\n", isa);
            continue;
        }
        fastnn_dispatch(isa);
        if (fastnn_active->count != kernels) return printf("a kernel without a case\n"), 1;
        for (const unsigned char *p = all + 8; p < all + bytes;) {
            header h;
            array arrays[FASTNN_POINTERS] = {0};
            memcpy(&h, p, sizeof h);
            p = parse(p + sizeof h, &h, arrays);
            if (h.vector_bytes && h.vector_bytes != fastnn_active->vector_bytes) continue;
            if (run(&h, arrays, scratch))
                passed++;
            else
                failed++;
        }
    }
    printf("%d passed, %d failed\n", passed, failed);
    return failed > 0;
}
