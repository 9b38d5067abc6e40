/* Copies and transpositions of matrices. */
#include "simd.h"
#if FASTNN_DOUBLE ? !defined(FASTNN_TRANSPOSE_F64) : !defined(FASTNN_TRANSPOSE_F32)
#if FASTNN_DOUBLE
#define FASTNN_TRANSPOSE_F64
#else
#define FASTNN_TRANSPOSE_F32
#endif

#ifndef FASTNN_TRANSPOSE_ONCE
#define FASTNN_TRANSPOSE_ONCE
/* SHUFFLE(type, x, y, indices of elements of x then y) */
#if defined(__clang__)
#define SHUFFLE(type, x, y, ...) __builtin_shufflevector((type)(x), (type)(y), __VA_ARGS__)
#else
#define SHUFFLE(type, x, y, ...) __builtin_shuffle((type)(x), (type)(y), (i##type){__VA_ARGS__})
#endif
/* the lower or upper halves of each 128 bits of x and y, their elements alternating */
#if FASTNN_VECTOR_BYTES == 64
#define LOWER_32 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29
#define UPPER_32 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31
#define LOWER_64 0, 8, 2, 10, 4, 12, 6, 14
#define UPPER_64 1, 9, 3, 11, 5, 13, 7, 15
#elif FASTNN_VECTOR_BYTES == 32
#define LOWER_32 0, 8, 1, 9, 4, 12, 5, 13
#define UPPER_32 2, 10, 3, 11, 6, 14, 7, 15
#define LOWER_64 0, 4, 2, 6
#define UPPER_64 1, 5, 3, 7
#else
#define LOWER_32 0, 4, 1, 5
#define UPPER_32 2, 6, 3, 7
#define LOWER_64 0, 2
#define UPPER_64 1, 3
#endif
#endif

/* elements in 128 bits */
#undef GROUP
#define GROUP ((ptrdiff_t)(16 / sizeof(real)))

/* y (rows, columns) = x */
static void FN(copy)(real *y, ptrdiff_t y_row, const real *x, ptrdiff_t x_row, ptrdiff_t rows,
                     ptrdiff_t columns) {
    for (; rows > 0; rows--, x += x_row, y += y_row) {
        ptrdiff_t j = 0;
        for (; j + LANES <= columns; j += LANES) FN(store)(y + j, FN(load)(x + j));
        if (j < columns) FN(store_part)(y + j, FN(load_part)(x + j, columns - j), columns - j);
    }
}

/* 128 bits from each row i, i + GROUP, ... of x, from the last row instead of any after it */
INLINE vec FN(load_groups)(const real *x, ptrdiff_t x_row, ptrdiff_t i, ptrdiff_t last) {
    const ptrdiff_t first = smaller(i, last);
    x += first * x_row;
#define ROW(q) ((const float *)(x + (smaller(i + (q) * GROUP, last) - first) * x_row))
#if FASTNN_VECTOR_BYTES == 64
    __m512 v = _mm512_castps128_ps512(_mm_loadu_ps(ROW(0)));
    v = _mm512_insertf32x4(v, _mm_loadu_ps(ROW(1)), 1);
    v = _mm512_insertf32x4(v, _mm_loadu_ps(ROW(2)), 2);
    return (vec)_mm512_insertf32x4(v, _mm_loadu_ps(ROW(3)), 3);
#elif FASTNN_VECTOR_BYTES == 32
    __m256 v = _mm256_castps128_ps256(_mm_loadu_ps(ROW(0)));
    return (vec)_mm256_insertf128_ps(v, _mm_loadu_ps(ROW(1)), 1);
#else
    return FN(load)((const real *)ROW(0));
#endif
#undef ROW
}

/* GROUP columns of LANES rows of x, each column a vector; the rows after `last` are copies of it.
 * The loads do a part of the transposition: they put together rows that lie GROUP apart, so that
 * no shuffle has to cross 128 bits. */
INLINE void FN(load_columns)(vec *column, const real *x, ptrdiff_t x_row, ptrdiff_t last) {
    vec v[16 / sizeof(real)];
    UNROLL
    for (int i = 0; i < GROUP; i++) v[i] = FN(load_groups)(x, x_row, i, last);
#if FASTNN_DOUBLE
    column[0] = SHUFFLE(vec_f64, v[0], v[1], LOWER_64);
    column[1] = SHUFFLE(vec_f64, v[0], v[1], UPPER_64);
#else
    vec a = SHUFFLE(vec_f32, v[0], v[1], LOWER_32), b = SHUFFLE(vec_f32, v[2], v[3], LOWER_32);
    vec c = SHUFFLE(vec_f32, v[0], v[1], UPPER_32), d = SHUFFLE(vec_f32, v[2], v[3], UPPER_32);
    column[0] = (vec)SHUFFLE(vec_f64, a, b, LOWER_64);
    column[1] = (vec)SHUFFLE(vec_f64, a, b, UPPER_64);
    column[2] = (vec)SHUFFLE(vec_f64, c, d, LOWER_64);
    column[3] = (vec)SHUFFLE(vec_f64, c, d, UPPER_64);
#endif
}

/* columns of `lanes` rows, of LANES at most, become rows of y */
INLINE void FN(transpose_rows)(real *y, ptrdiff_t y_row, const real *x, ptrdiff_t x_row,
                               ptrdiff_t lanes, ptrdiff_t columns) {
    ptrdiff_t j = 0;
    for (; j + GROUP <= columns; j += GROUP) {
        vec column[16 / sizeof(real)];
        FN(load_columns)(column, x + j, x_row, lanes - 1);
        UNROLL
        for (int i = 0; i < GROUP; i++) FN(store_padded)(y + (j + i) * y_row, column[i], lanes);
    }
    for (; j < columns; j++)
        for (ptrdiff_t i = 0; i < lanes; i++) y[j * y_row + i] = x[i * x_row + j];
}

/* y (columns, rows) = xᵀ */
static void FN(transpose)(real *y, ptrdiff_t y_row, const real *x, ptrdiff_t x_row, ptrdiff_t rows,
                          ptrdiff_t columns) {
    for (; rows >= LANES; rows -= LANES, x += LANES * x_row, y += LANES)
        FN(transpose_rows)(y, y_row, x, x_row, LANES, columns);
    if (rows > 2)
        FN(transpose_rows)(y, y_row, x, x_row, rows, columns);
    else
        for (ptrdiff_t i = 0; i < rows; i++)
            for (ptrdiff_t j = 0; j < columns; j++) y[j * y_row + i] = x[i * x_row + j];
}
#endif
