/* What several families do with a row. */
#include "simd.h"
#include "vecmath.h"
#if FASTNN_DOUBLE ? !defined(FASTNN_ROWS_F64) : !defined(FASTNN_ROWS_F32)
#if FASTNN_DOUBLE
#define FASTNN_ROWS_F64
#else
#define FASTNN_ROWS_F32
#endif

/* A row of up to SHORT_ROW columns has its exponentials on the stack, in whole vectors: a load
 * that follows a masked store to the same place stalls. A longer one has them in the output. */
#ifndef SHORT_ROW
#define SHORT_ROW 256
#define TERMS_ROOM(cols) ((cols) <= SHORT_ROW ? ROUND_UP(cols, LANES) : (cols))
#endif
_Static_assert(SHORT_ROW % LANES == 0, "short rows have room for whole vectors");

/* The largest of a row; -inf for an empty one. */
INLINE real FN(row_max)(const real *x, ptrdiff_t cols) {
    vec top = VEC(-INFINITY);
    for (ptrdiff_t j = 0; j < cols; j += LANES)
        top = FN(max)(FN(load_padded)(x + j, cols - j, (real)-INFINITY), top);
    return FN(max_lane)(top);
}

/* The sum of exp(x - top), top = max x, of a row; the terms go to e, which has room for `room`
 * elements, unless it is NULL. */
INLINE real FN(row_exp)(real *e, ptrdiff_t room, const real *x, ptrdiff_t cols, real *top) {
    if (cols <= LANES) { /* one vector */
        vec v = FN(load_padded)(x, cols, (real)-INFINITY);
        *top = FN(max_lane)(v);
        v = FN(vexp)(v - VEC(*top));
        if (e) FN(store_padded)(e, v, room);
        return FN(sum)(v);
    }
    *top = FN(row_max)(x, cols);
    sums total = FN(no_sums)();
    for (ptrdiff_t j = 0; j < cols; j += LANES) {
        vec v = FN(vexp)(FN(load_padded)(x + j, cols - j, (real)-INFINITY) - VEC(*top));
        FN(add)(&total, v);
        if (e) FN(store_padded)(e + j, v, room - j);
    }
    return FN(total)(total);
}

/* The sum of x y over a row, in two chains side by side. */
INLINE real FN(row_dot)(const real *x, const real *y, ptrdiff_t cols) {
    sums s;
    UNROLL
    for (int p = 0; p < SUM_PARTS; p++) {
        vec even = VEC(0), odd = VEC(0);
        ptrdiff_t j = p * LANES, next = j + SUM_LANES;
        for (; next - p * LANES + SUM_LANES <= cols; j += 2 * SUM_LANES, next += 2 * SUM_LANES) {
            even = FN(fma)(FN(load)(x + j), FN(load)(y + j), even);
            odd = FN(fma)(FN(load)(x + next), FN(load)(y + next), odd);
        }
        for (; j < cols; j += SUM_LANES)
            even = FN(fma)(FN(load_padded)(x + j, cols - j, 0), FN(load_padded)(y + j, cols - j, 0),
                           even);
        s.part[p] = even + odd;
    }
    return FN(total)(s);
}
#endif
