/* A program: the kernel calls of a forward or a training step, as plain C. */
#ifndef FASTNN_PROGRAM_H
#define FASTNN_PROGRAM_H
#include <stdatomic.h>

#include "table.h"
#include "update.h"

/* How the items of a call are shared among threads. */
enum fastnn_split {
    FASTNN_BY_ROWS,  /* each thread takes its rows of the batch */
    FASTNN_BY_ITEMS, /* each thread takes a share of a fixed number of items (weight gradients) */
    FASTNN_SERIAL    /* the calling thread alone (lists of rows, sums, Python code) */
};

typedef struct {
    fastnn_op op;
    int split;
    int waits;       /* begins when all threads have done the calls before it */
    ptrdiff_t items; /* per row of the batch (BY_ROWS) or in all */
} fastnn_call;

/* What is known of how fast a run is on one thread and on several; zeros at first. */
typedef struct {
    double one;         /* seconds per row on one thread; 0 if not measured */
    double credit;      /* seconds that several threads may lose */
    double alone_until; /* one thread is used before this time */
    int probes;         /* runs that are to measure one thread */
    int losses;         /* how often in a row several threads have lost more than that */
    atomic_int used;    /* by a run: others that are under way learn nothing */
} fastnn_pace;

typedef struct {
    const fastnn_call *calls;
    ptrdiff_t count;
    fastnn_update *update; /* an optimizer step to run after the calls, or NULL */
    ptrdiff_t rows;        /* rows of this batch */
    int threads;           /* at most; one if several have been slower, unless they always share */
    fastnn_pace *pace;     /* of such runs; only read and written if there are several threads */
    char *scratch;         /* threads blocks of FASTNN_SCRATCH bytes, 64-byte aligned */
    const int *failed;     /* set by a Python callback that raised: nothing runs after it */
    int keep_denormals;    /* as functions on arrays do; programs flush them to zero */
} fastnn_run;

/* Runs the calls in order, in one parallel region of up to `threads` threads, with denormals
 * flushed to zero unless they are kept. The caller's floating-point state is restored. The result
 * has the same bits on any number of threads, so that the number may be chosen by what is fastest.
 * Returns how many threads ran. */
int fastnn_execute(const fastnn_run *run);

/* Sum of n losses in double, in order: the same bits whatever the number of threads. */
double fastnn_sum(const void *values, ptrdiff_t n, int is_double);

#endif
