/* A forward pass that nothing changes any more, for any number of threads at once: each takes a
 * set of buffers, and there is no lock. Kernels are called as program.h has them, for a few rows at
 * a time: what they compute does not depend on how a batch is cut. */
#ifndef FASTNN_PREDICT_H
#define FASTNN_PREDICT_H
#include <stddef.h>

#include "program.h"

/* What is filled in for a set of buffers, in order of kind: where x goes, y, a buffer, and the
 * number of rows. */
enum { FASTNN_X, FASTNN_Y, FASTNN_BUFFER, FASTNN_ROWS, FASTNN_KINDS };

typedef struct {
    ptrdiff_t call;  /* bytes from the first operation to the arguments */
    ptrdiff_t index; /* of the pointer or size */
    ptrdiff_t value; /* which buffer, or how many for each row */
} fastnn_hole;

typedef struct {
    ptrdiff_t bytes, row_bytes;
} fastnn_buffer;

enum { FASTNN_SPARE = 16 };

typedef struct {
    const fastnn_call *calls; /* as a program has them */
    const fastnn_op *epilogues;
    ptrdiff_t call_count, epilogue_count;
    const fastnn_hole *holes;
    ptrdiff_t ends[FASTNN_KINDS];
    const fastnn_buffer *buffers;
    ptrdiff_t buffer_count;
    ptrdiff_t most_rows;        /* at a time */
    ptrdiff_t x_bytes, y_bytes; /* of a row */
    int is_double;
    void *spare[FASTNN_SPARE]; /* sets of buffers that nobody uses */
    void *owner;               /* of all this, for who keeps it alive */
} fastnn_frozen;

/* y (rows, ...) for x (rows, ...), with denormals flushed to zero. Returns 0, or -1 if there is no
 * memory. */
int fastnn_frozen_run(fastnn_frozen *f, const void *x, ptrdiff_t rows, void *y);

/* The same for callers in other languages; without memory y is NaN. */
void fastnn_predict(void *context, const void *x, ptrdiff_t rows, void *y);

/* Frees the sets of buffers. */
void fastnn_frozen_clear(fastnn_frozen *f);

#endif
