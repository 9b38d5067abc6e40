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

enum { FASTNN_WIDEST_VECTOR = 64 }; /* bytes, of any instruction set */

typedef struct fastnn_args fastnn_args;
typedef struct fastnn_op fastnn_op;

/* Computes the items [begin, end) of a call. What an item is (a row of the batch,
 * a row of a weight gradient, an element) stands in the kernel's comment. */
typedef void (*fastnn_kernel)(const fastnn_args *a, ptrdiff_t begin, ptrdiff_t end, void *scratch);

struct fastnn_args {
    void *p[FASTNN_POINTERS];
    ptrdiff_t n[FASTNN_SIZES];
    double s[FASTNN_SCALARS];
    ptrdiff_t accumulate;  /* non-zero: add to the outputs instead of overwriting them */
    const fastnn_op *then; /* epilogue: run on each block of finished rows while it is in
                              cache; NULL for none */
    void *python;          /* the function of a call to Python */
};

struct fastnn_op {
    fastnn_kernel kernel;
    fastnn_args args;
};

/* What a kernel promises beyond what all do. */
enum {
    /* The first output may lie exactly on any input of as many bytes per item. */
    FASTNN_IN_PLACE = 1,
    /* With args.accumulate it adds to all its outputs instead of overwriting them. */
    FASTNN_ACCUMULATES = 2,
    /* It runs args.then on each block of rows that it has finished. */
    FASTNN_TAKES_THEN = 4,
    /* Its items depend on each other or begin at blocks (a sum over all of them, packed states):
     * they are shared among threads only by who knows how, as update.c does. All others compute an
     * item to the same bits whatever range it came in. */
    FASTNN_WHOLE = 8,
    /* There is a kernel with the suffix _bfloat16 that reads the operands of its product so. */
    FASTNN_NARROWS = 16
};

/* A row of the table, written in the kernel's .inc file as
 *
 *     KERNEL(name, outputs, pointers, sizes, scalars, flags, cost of an item)
 *
 * The counts are those of p[], n[] and s[], NULL pointers included. The first `outputs` pointers
 * are written, the others only read, but that optimizers change their states, too; inputs come in
 * the order in which the kernel's comment lists them. The cost is an expression in n[]: the time of
 * an item in operations of a matrix product, whose multiply-adds count two. A processor does about
 * 10^11 of them in a second, so that a nanosecond is a hundred. It decides whether threads share
 * the work, nothing else. */
typedef struct {
    const char *name;
    fastnn_kernel f32, f64;
    int outputs, pointers, sizes, scalars, flags;
    double (*cost)(const ptrdiff_t *n);
} fastnn_entry;

typedef struct {
    const char *isa;
    int vector_bytes;
    int count;
    const fastnn_entry *entries;
} fastnn_table;

#endif
