#define _GNU_SOURCE /* posix_memalign */
#include "predict.h"

#include <math.h>
#include <string.h>

#include "fpmode.h"
#include "memory.h"

/* A set of buffers: operations with their arguments, and what they work on. */
typedef struct {
    ptrdiff_t rows;     /* that the arguments say */
    ptrdiff_t capacity; /* rows that there is room for */
    char *scratch;
    fastnn_call calls[];
} working_set;

static ptrdiff_t whole_lines(ptrdiff_t bytes) { return (bytes + 63) / 64 * 64; }

static fastnn_args *at(working_set *w, const fastnn_hole *hole) {
    return (fastnn_args *)((char *)w->calls + hole->call);
}

/* The operations lie behind one another, then the buffers, then scratch memory. */
static working_set *make(const fastnn_frozen *f, ptrdiff_t rows) {
    const ptrdiff_t calls = f->call_count * (ptrdiff_t)sizeof(fastnn_call);
    const ptrdiff_t epilogues = f->epilogue_count * (ptrdiff_t)sizeof(fastnn_op);
    const ptrdiff_t start = whole_lines((ptrdiff_t)sizeof(working_set) + calls + epilogues);
    ptrdiff_t bytes = start;
    for (ptrdiff_t i = 0; i < f->buffer_count; i++)
        bytes += whole_lines(f->buffers[i].bytes + rows * f->buffers[i].row_bytes) + 64;
    void *memory = fastnn_allocate((size_t)(bytes + FASTNN_SCRATCH));
    if (!memory) return NULL;
    working_set *w = memory;
    w->rows = 0;
    w->capacity = rows;
    w->scratch = (char *)memory + bytes;
    fastnn_op *moved = (fastnn_op *)((char *)w->calls + calls);
    memcpy(w->calls, f->calls, (size_t)calls);
    memcpy(moved, f->epilogues, (size_t)epilogues);
    for (ptrdiff_t i = 0; i < f->call_count; i++)
        if (w->calls[i].op.args.then)
            w->calls[i].op.args.then = moved + (w->calls[i].op.args.then - f->epilogues);
    for (ptrdiff_t i = 0; i < f->epilogue_count; i++)
        if (moved[i].args.then) moved[i].args.then = moved + (moved[i].args.then - f->epilogues);
    char *place = (char *)memory + start;
    for (ptrdiff_t i = 0; i < f->buffer_count; i++) {
        for (ptrdiff_t h = f->ends[FASTNN_Y]; h < f->ends[FASTNN_BUFFER]; h++)
            if (f->holes[h].value == i) at(w, &f->holes[h])->p[f->holes[h].index] = place;
        /* an odd number of lines apart, so that buffers do not share sets of the cache */
        place += whole_lines(f->buffers[i].bytes + rows * f->buffers[i].row_bytes) + 64;
    }
    return w;
}

/* A set of buffers for so many rows, which belongs to the caller until he gives it back. */
static working_set *take(fastnn_frozen *f, ptrdiff_t rows) {
    for (int i = 0; i < FASTNN_SPARE; i++) {
        if (!__atomic_load_n(&f->spare[i], __ATOMIC_RELAXED)) continue;
        working_set *w = __atomic_exchange_n(&f->spare[i], NULL, __ATOMIC_ACQUIRE);
        if (!w) continue;
        if (w->capacity >= rows) return w;
        fastnn_free(w);
        break;
    }
    return make(f, rows);
}

static void give_back(fastnn_frozen *f, working_set *w) {
    for (int i = 0; i < FASTNN_SPARE; i++) {
        void *none = NULL;
        if (__atomic_compare_exchange_n(&f->spare[i], &none, w, 0, __ATOMIC_RELEASE,
                                        __ATOMIC_RELAXED))
            return;
    }
    fastnn_free(w);
}

static void run(const fastnn_frozen *f, working_set *w, const char *x, ptrdiff_t rows, char *y) {
    const fastnn_hole *hole = f->holes, *holes = f->holes;
    for (; hole < holes + f->ends[FASTNN_X]; hole++) at(w, hole)->p[hole->index] = (void *)x;
    for (; hole < holes + f->ends[FASTNN_Y]; hole++) at(w, hole)->p[hole->index] = y;
    if (rows != w->rows) {
        for (hole = holes + f->ends[FASTNN_BUFFER]; hole < holes + f->ends[FASTNN_ROWS]; hole++)
            at(w, hole)->n[hole->index] = rows * hole->value;
        w->rows = rows;
    }
    for (ptrdiff_t i = 0; i < f->call_count; i++) {
        const fastnn_call *c = &w->calls[i];
        c->op.kernel(&c->op.args, 0, c->split == FASTNN_BY_ROWS ? rows * c->items : c->items,
                     w->scratch);
    }
}

int fastnn_frozen_run(fastnn_frozen *f, const void *x, ptrdiff_t rows, void *y) {
    const ptrdiff_t step = rows < f->most_rows ? rows : f->most_rows;
    if (rows <= 0) return 0;
    working_set *w = take(f, step);
    if (!w) return -1;
    const fastnn_fpmode mode = fastnn_fpmode_flush();
    for (ptrdiff_t i = 0; i < rows; i += step)
        run(f, w, (const char *)x + i * f->x_bytes, rows - i < step ? rows - i : step,
            (char *)y + i * f->y_bytes);
    fastnn_fpmode_restore(mode);
    give_back(f, w);
    return 0;
}

void fastnn_predict(void *context, const void *x, ptrdiff_t rows, void *y) {
    fastnn_frozen *f = context;
    if (fastnn_frozen_run(f, x, rows, y) == 0) return;
    const ptrdiff_t count = rows * f->y_bytes / (f->is_double ? 8 : 4);
    for (ptrdiff_t i = 0; i < count; i++) {
        if (f->is_double)
            ((double *)y)[i] = NAN;
        else
            ((float *)y)[i] = NAN;
    }
}

void fastnn_frozen_clear(fastnn_frozen *f) {
    for (int i = 0; i < FASTNN_SPARE; i++) {
        fastnn_free(f->spare[i]);
        f->spare[i] = NULL;
    }
}
