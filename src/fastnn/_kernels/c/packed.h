/* How weights lie once linear_pack has transposed them: what Python allocates (gemm_packed.inc). */
#ifndef FASTNN_PACKED_H
#define FASTNN_PACKED_H
#include <stddef.h>

/* Elements of a row of outputs, in whole vectors of any instruction set. `item` is the size of an
 * element. */
static inline ptrdiff_t fastnn_packed_stride(ptrdiff_t out, ptrdiff_t item) {
    const ptrdiff_t lanes = 64 / item;
    return (out + lanes - 1) / lanes * lanes;
}

#endif
