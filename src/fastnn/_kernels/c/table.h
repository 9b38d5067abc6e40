/* What Python, the program and the kernels agree on: how a kernel is called and
 * the table of kernels that each instruction set exports.
 *
 * Every kernel has one signature, so that a program is an array of (kernel, args)
 * and a new kernel needs no glue. Above each kernel in the *.inc files a comment
 * lists p[], n[] and s[] in order, with the shape of each pointer. */
#ifndef FASTNN_TABLE_H
#define FASTNN_TABLE_H

#include <stddef.h>
#include <stdint.h>

enum { FASTNN_POINTERS = 10, FASTNN_SIZES = 8, FASTNN_SCALARS = 10 };

/* Bytes of scratch memory that every kernel may use, one block per thread. */
#define FASTNN_SCRATCH ((ptrdiff_t)4 << 20)

typedef struct fastnn_args fastnn_args;
typedef struct fastnn_op fastnn_op;

/* Computes the items [begin, end) of a call. What an item is (a row of the batch,
 * a row of a weight gradient, an element) stands in the kernel's comment. */
typedef void (*fastnn_kernel)(const fastnn_args *a, ptrdiff_t begin, ptrdiff_t end, void *scratch);

struct fastnn_args {
    void *p[FASTNN_POINTERS];
    ptrdiff_t n[FASTNN_SIZES];
    double s[FASTNN_SCALARS];
    ptrdiff_t accumulate;  /* non-zero: add to the output instead of overwriting it */
    const fastnn_op *then; /* epilogue: run on each block of finished rows while it is in
                              cache; NULL for none. Only matrix products look at it. */
};

struct fastnn_op {
    fastnn_kernel kernel;
    fastnn_args args;
};

typedef struct {
    const char *name;
    fastnn_kernel f32, f64;
} fastnn_entry;

typedef struct {
    const char *isa;
    int vector_bytes;
    int count;
    const fastnn_entry *entries;
} fastnn_table;

#endif
