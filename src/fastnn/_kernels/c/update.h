/* One optimizer step over any number of arrays, as plain C.
 *
 * The arrays are a table of segments. Elements are numbered through the whole table, and each
 * thread takes an equal share of that numbering, so that one array of ten million elements and a
 * million arrays of ten are shared alike. Of a sparse segment each thread takes a share of the rows
 * that the backward pass has listed; all others stay as they are, states included. A step is one or
 * more phases, with a barrier between:
 *
 *     for (int phase = 0; phase < fastnn_update_phases(u); phase++) {
 *         fastnn_update_phase(u, phase, thread, threads);    every thread
 *         barrier
 *     }
 *
 *   squares   (only with clip_norm or check_finite) each thread sums the squares of its share;
 *   step      the rule: one pass over parameters, gradients and states, the gradients clipped and
 *             scaled by the clipping factor on the way;
 *   finish    (only for LAMB) the parameters, once the norms of whole tensors are known.
 *
 * Sums are kept per chunk and added in order: the result has the same bits for any number of
 * threads. Whoever runs the phases turns the flushing of denormals on (fpmode.h).
 *
 * Several steps can run without going back to Python: `scalars` then holds a table for each,
 * and `step` says which is next (set by one thread, between steps). */
#ifndef FASTNN_UPDATE_H
#define FASTNN_UPDATE_H
#include "table.h"

enum {
    FASTNN_UPDATE_STATES = 6,   /* states and their scales */
    FASTNN_UPDATE_POINTERS = 8, /* a parameter, its gradient, its states and their scales */
    FASTNN_UPDATE_CHUNK = 4096, /* elements for which one partial sum is kept */
    FASTNN_STATE_BLOCK = 256,   /* elements of an 8-bit state that share a scale */
    FASTNN_UPDATE_NORMS = 8,    /* the p[] in which LAMB's kernels find their norms */
    FASTNN_UPDATE_KEPT = 9,     /* the p[] in which they may leave the update, or NULL */
    FASTNN_UPDATE_BLOCK = 9,    /* the p[] of the block of 8-bit states that a kernel works on */
    FASTNN_UPDATE_RATIO = 9     /* the s[] in which LAMB's second half finds its trust ratio */
};
_Static_assert(FASTNN_UPDATE_STATES + 2 == FASTNN_UPDATE_POINTERS &&
                   FASTNN_UPDATE_POINTERS <= FASTNN_UPDATE_NORMS &&
                   FASTNN_UPDATE_NORMS < FASTNN_UPDATE_KEPT &&
                   FASTNN_UPDATE_KEPT < (int)FASTNN_POINTERS &&
                   FASTNN_UPDATE_POINTERS <= FASTNN_UPDATE_BLOCK &&
                   FASTNN_UPDATE_BLOCK != FASTNN_UPDATE_NORMS &&
                   FASTNN_UPDATE_BLOCK < (int)FASTNN_POINTERS &&
                   FASTNN_UPDATE_RATIO < (int)FASTNN_SCALARS,
               "a segment and what kernels add must fit into fastnn_args");
_Static_assert(FASTNN_UPDATE_CHUNK % FASTNN_STATE_BLOCK == 0, "threads share whole blocks");

typedef struct {
    void *p[FASTNN_UPDATE_POINTERS];
    ptrdiff_t n;         /* elements */
    ptrdiff_t first;     /* the number of the first one in the whole table */
    ptrdiff_t slot;      /* where its partial norms start, for LAMB */
    ptrdiff_t rule;      /* index into rules */
    const int64_t *rows; /* sparse: which rows to update, behind their number; -1 for all */
    ptrdiff_t row_size;  /* sparse: elements of a row */
} fastnn_segment;

/* What is done to a segment: one per parameter group and dtype. */
typedef struct {
    fastnn_kernel step;
    fastnn_kernel finish;     /* LAMB's second half; NULL for the others */
    fastnn_kernel square_sum; /* of the gradient's dtype */
    fastnn_kernel clip;       /* of the gradient's dtype */
    ptrdiff_t gradient_bytes; /* of an element of the gradient */
    ptrdiff_t item_bytes;     /* of an element; 0 where ranges must begin at whole blocks */
} fastnn_rule;

typedef struct {
    const fastnn_segment *segments;
    ptrdiff_t segment_count;
    ptrdiff_t sparse_count; /* further segments, of which only some rows are updated */
    ptrdiff_t elements;     /* the numbers given to elements of the others, gaps included */
    const fastnn_rule *rules;
    ptrdiff_t rule_count;
    const double *scalars; /* (steps, rules, FASTNN_SCALARS): the first scales gradients */
    ptrdiff_t step;        /* which of the steps is next */
    ptrdiff_t t;           /* steps that were taken before the first of them */
    double clip_norm;      /* largest norm of all gradients together; infinite for no limit */
    double clip_value;     /* largest size of an element of one, before that; infinite for none */
    int check_finite;      /* write nothing and set `failed` if a gradient is not finite */
    int has_finish;        /* some rule has a second half */
    double *sums;          /* (chunks + sparse_count, 2): squares; 0 or NaN if one is not finite */
    double *norms;         /* LAMB: (slots, 2): squares of the parameter and of its update */
    double grad_norm;      /* result of the phase `squares` */
    int failed;            /* result: the step was not taken */
} fastnn_update;

/* How many chunks `elements` elements have: the rows of `sums`. */
static inline ptrdiff_t fastnn_update_chunks(ptrdiff_t elements) {
    return (elements + FASTNN_UPDATE_CHUNK - 1) / FASTNN_UPDATE_CHUNK;
}

int fastnn_update_phases(const fastnn_update *u);
void fastnn_update_phase(fastnn_update *u, int phase, int thread, int threads);

#endif
