/* Vectors of `real`, the element type of this pass. kernels.c includes every family once with
 * FASTNN_DOUBLE 0 and once with 1, so every kernel is written once.
 *
 *   real         float or double             FN(name)   name_f32 or name_f64
 *   vec          LANES reals, one register    ivec       as many signed integers of the same size
 *   VEC(x)       x in every lane
 *
 * Arithmetic, comparisons and bit operations are the compiler's vector extensions;
 * only what these lack is a function here.
 *
 * Reading and writing vectors, of which `n` elements exist:
 *
 *                          n                 the other lanes
 *   load(p)                LANES or more
 *   load_part(p, n)        0 to LANES        0, their memory is not touched
 *   load_padded(p, n, x)   0 or more         x, their memory is not touched
 *   keep_first(v, n)       0 or more         0; v is in a register already
 *   store, store_part, store_padded          as these, not written
 *
 * A sum over the elements of a row has one shape on every processor, so that it has the same bits
 * there: element j is added to partial sum number j % SUM_LANES, as many as the widest register
 * has lanes, and those are added in halves. A narrower register holds a part of them.
 *
 * A header that families share is read once per dtype too: its guard has two names. */
#if FASTNN_DOUBLE ? !defined(FASTNN_SIMD_F64) : !defined(FASTNN_SIMD_F32)
#if FASTNN_DOUBLE
#define FASTNN_SIMD_F64
#else
#define FASTNN_SIMD_F32
#endif

#if defined(__AVX512F__)
#define FASTNN_VECTOR_BYTES 64
#elif defined(__AVX2__)
#define FASTNN_VECTOR_BYTES 32
#else
#define FASTNN_VECTOR_BYTES 16
#endif

#if defined(__AVX512F__) || defined(__aarch64__)
#define FASTNN_VECTOR_REGISTERS 32
#else
#define FASTNN_VECTOR_REGISTERS 16
#endif

#ifndef FASTNN_SIMD_ONCE
#define FASTNN_SIMD_ONCE
#include "table.h"
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif
#define INLINE static inline __attribute__((always_inline, unused))
#define FASTNN_PASTE_(a, b) a##b
#define FASTNN_PASTE(a, b) FASTNN_PASTE_(a, b)
/* before a loop whose count is a constant in each copy of an inlined function */
#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif
typedef float vec_f32 __attribute__((vector_size(FASTNN_VECTOR_BYTES)));
typedef double vec_f64 __attribute__((vector_size(FASTNN_VECTOR_BYTES)));
typedef int32_t ivec_f32 __attribute__((vector_size(FASTNN_VECTOR_BYTES)));
typedef int64_t ivec_f64 __attribute__((vector_size(FASTNN_VECTOR_BYTES)));
typedef uint32_t unsigned_f32 __attribute__((vector_size(FASTNN_VECTOR_BYTES)));
typedef uint64_t unsigned_f64 __attribute__((vector_size(FASTNN_VECTOR_BYTES)));
/* the same, at any address */
typedef float uvec_f32 __attribute__((vector_size(FASTNN_VECTOR_BYTES), aligned(4), may_alias));
typedef double uvec_f64 __attribute__((vector_size(FASTNN_VECTOR_BYTES), aligned(8), may_alias));

/* SUM_LANES partial sums, in registers that take turns: part[0] is whose turn it is. Where the
 * turns start makes no difference to the halves. */
enum { SUM_PARTS = FASTNN_WIDEST_VECTOR / FASTNN_VECTOR_BYTES };
typedef struct {
    vec_f32 part[SUM_PARTS];
} sums_f32;
typedef struct {
    vec_f64 part[SUM_PARTS];
} sums_f64;

/* x y + z, rounded once where the processor can: on v3, v4 and arm64. Compilers are told to fuse
 * nothing themselves, for each would choose other sums. */
#if defined(__AVX512F__)
INLINE vec_f32 fma_f32(vec_f32 x, vec_f32 y, vec_f32 z) {
    return (vec_f32)_mm512_fmadd_ps((__m512)x, (__m512)y, (__m512)z);
}
INLINE vec_f64 fma_f64(vec_f64 x, vec_f64 y, vec_f64 z) {
    return (vec_f64)_mm512_fmadd_pd((__m512d)x, (__m512d)y, (__m512d)z);
}
#elif defined(__FMA__)
INLINE vec_f32 fma_f32(vec_f32 x, vec_f32 y, vec_f32 z) {
    return (vec_f32)_mm256_fmadd_ps((__m256)x, (__m256)y, (__m256)z);
}
INLINE vec_f64 fma_f64(vec_f64 x, vec_f64 y, vec_f64 z) {
    return (vec_f64)_mm256_fmadd_pd((__m256d)x, (__m256d)y, (__m256d)z);
}
#elif defined(__aarch64__)
INLINE vec_f32 fma_f32(vec_f32 x, vec_f32 y, vec_f32 z) {
    return (vec_f32)vfmaq_f32((float32x4_t)z, (float32x4_t)x, (float32x4_t)y);
}
INLINE vec_f64 fma_f64(vec_f64 x, vec_f64 y, vec_f64 z) {
    return (vec_f64)vfmaq_f64((float64x2_t)z, (float64x2_t)x, (float64x2_t)y);
}
#else
INLINE vec_f32 fma_f32(vec_f32 x, vec_f32 y, vec_f32 z) { return x * y + z; }
INLINE vec_f64 fma_f64(vec_f64 x, vec_f64 y, vec_f64 z) { return x * y + z; }
#endif

INLINE ptrdiff_t smaller(ptrdiff_t x, ptrdiff_t y) { return x < y ? x : y; }
#endif

#undef real
#undef vec
#undef sums
#undef ivec
#undef uvec
#undef integer
#undef FN
#if FASTNN_DOUBLE
#define real double
#define integer int64_t
#define vec vec_f64
#define sums sums_f64
#define ivec ivec_f64
#define uvec uvec_f64
#define FN(name) FASTNN_PASTE(name, _f64)
#else
#define real float
#define integer int32_t
#define vec vec_f32
#define sums sums_f32
#define ivec ivec_f32
#define uvec uvec_f32
#define FN(name) FASTNN_PASTE(name, _f32)
#endif
#undef LANES
#define LANES ((ptrdiff_t)(FASTNN_VECTOR_BYTES / sizeof(real)))
#undef SUM_LANES
#define SUM_LANES ((ptrdiff_t)(FASTNN_WIDEST_VECTOR / sizeof(real)))
#undef VEC
#define VEC(x) ((real)(x) - (vec){0}) /* subtracting, for -0 + 0 is +0 */
#undef IVEC
#define IVEC(x) ((ivec){0} + (integer)(x))
#undef ROUND_UP
#define ROUND_UP(n, unit) (((n) + (unit) - 1) / (unit) * (unit))

INLINE vec FN(load)(const real *p) { return *(const uvec *)p; }
INLINE void FN(store)(real *p, vec v) { *(uvec *)p = v; }

/* x where the lane of mask is all ones, y where it is zero */
INLINE vec FN(select)(ivec mask, vec x, vec y) {
    return (vec)((mask & (ivec)x) | (~mask & (ivec)y));
}

/* 0, 1, 2, ... */
INLINE ivec FN(lane_numbers)(void) {
    ivec lane;
    for (int i = 0; i < LANES; i++) lane[i] = i;
    return lane;
}
INLINE ivec FN(first_lanes)(ptrdiff_t n) { return (ivec)(FN(lane_numbers)() < IVEC(n)); }

/* AddressSanitizer does not see masked accesses: it is shown the elements one by one. */
#undef SHOW
#if defined(__SANITIZE_ADDRESS__)
#define SHOW(p, n)                                                                                 \
    for (ptrdiff_t element = 0; element < (n) && element < LANES; element++)                       \
    (void)((const volatile real *)(p))[element]
#else
#define SHOW(p, n) ((void)0)
#endif

#if defined(__AVX512F__)
#if FASTNN_DOUBLE
INLINE vec FN(load_part)(const real *p, ptrdiff_t n) {
    SHOW(p, n);
    return (vec)_mm512_maskz_loadu_pd((__mmask8)((1u << n) - 1), p);
}
INLINE void FN(store_part)(real *p, vec v, ptrdiff_t n) {
    SHOW(p, n);
    _mm512_mask_storeu_pd(p, (__mmask8)((1u << n) - 1), (__m512d)v);
}
INLINE vec FN(max)(vec x, vec y) { return (vec)_mm512_max_pd((__m512d)x, (__m512d)y); }
INLINE vec FN(min)(vec x, vec y) { return (vec)_mm512_min_pd((__m512d)x, (__m512d)y); }
INLINE vec FN(sqrt)(vec x) { return (vec)_mm512_sqrt_pd((__m512d)x); }
INLINE vec FN(round)(vec x) {
    return (vec)_mm512_roundscale_pd((__m512d)x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
INLINE real FN(max_lane)(vec x) { return _mm512_reduce_max_pd((__m512d)x); }
#else
INLINE vec FN(load_part)(const real *p, ptrdiff_t n) {
    SHOW(p, n);
    return (vec)_mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p);
}
INLINE void FN(store_part)(real *p, vec v, ptrdiff_t n) {
    SHOW(p, n);
    _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), (__m512)v);
}
INLINE vec FN(max)(vec x, vec y) { return (vec)_mm512_max_ps((__m512)x, (__m512)y); }
INLINE vec FN(min)(vec x, vec y) { return (vec)_mm512_min_ps((__m512)x, (__m512)y); }
INLINE vec FN(sqrt)(vec x) { return (vec)_mm512_sqrt_ps((__m512)x); }
INLINE vec FN(round)(vec x) {
    return (vec)_mm512_roundscale_ps((__m512)x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
INLINE real FN(max_lane)(vec x) { return _mm512_reduce_max_ps((__m512)x); }
#endif
#else
#if defined(__AVX2__)
#if FASTNN_DOUBLE
INLINE vec FN(load_part)(const real *p, ptrdiff_t n) {
    SHOW(p, n);
    return (vec)_mm256_maskload_pd(p, (__m256i)FN(first_lanes)(n));
}
INLINE void FN(store_part)(real *p, vec v, ptrdiff_t n) {
    SHOW(p, n);
    _mm256_maskstore_pd(p, (__m256i)FN(first_lanes)(n), (__m256d)v);
}
INLINE vec FN(max)(vec x, vec y) { return (vec)_mm256_max_pd((__m256d)x, (__m256d)y); }
INLINE vec FN(min)(vec x, vec y) { return (vec)_mm256_min_pd((__m256d)x, (__m256d)y); }
INLINE vec FN(sqrt)(vec x) { return (vec)_mm256_sqrt_pd((__m256d)x); }
INLINE vec FN(round)(vec x) {
    return (vec)_mm256_round_pd((__m256d)x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
#else
INLINE vec FN(load_part)(const real *p, ptrdiff_t n) {
    SHOW(p, n);
    return (vec)_mm256_maskload_ps(p, (__m256i)FN(first_lanes)(n));
}
INLINE void FN(store_part)(real *p, vec v, ptrdiff_t n) {
    SHOW(p, n);
    _mm256_maskstore_ps(p, (__m256i)FN(first_lanes)(n), (__m256)v);
}
INLINE vec FN(max)(vec x, vec y) { return (vec)_mm256_max_ps((__m256)x, (__m256)y); }
INLINE vec FN(min)(vec x, vec y) { return (vec)_mm256_min_ps((__m256)x, (__m256)y); }
INLINE vec FN(sqrt)(vec x) { return (vec)_mm256_sqrt_ps((__m256)x); }
INLINE vec FN(round)(vec x) {
    return (vec)_mm256_round_ps((__m256)x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
#endif
#else
INLINE vec FN(load_part)(const real *p, ptrdiff_t n) {
    vec v = {0};
    UNROLL
    for (int i = 0; i < LANES; i++)
        if (i < n) v[i] = p[i];
    return v;
}
INLINE void FN(store_part)(real *p, vec v, ptrdiff_t n) {
    UNROLL
    for (int i = 0; i < LANES; i++)
        if (i < n) p[i] = v[i];
}
#if defined(__SSE4_1__) && FASTNN_DOUBLE
INLINE vec FN(max)(vec x, vec y) { return (vec)_mm_max_pd((__m128d)x, (__m128d)y); }
INLINE vec FN(min)(vec x, vec y) { return (vec)_mm_min_pd((__m128d)x, (__m128d)y); }
INLINE vec FN(sqrt)(vec x) { return (vec)_mm_sqrt_pd((__m128d)x); }
INLINE vec FN(round)(vec x) {
    return (vec)_mm_round_pd((__m128d)x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
#elif defined(__SSE4_1__)
INLINE vec FN(max)(vec x, vec y) { return (vec)_mm_max_ps((__m128)x, (__m128)y); }
INLINE vec FN(min)(vec x, vec y) { return (vec)_mm_min_ps((__m128)x, (__m128)y); }
INLINE vec FN(sqrt)(vec x) { return (vec)_mm_sqrt_ps((__m128)x); }
INLINE vec FN(round)(vec x) {
    return (vec)_mm_round_ps((__m128)x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
#else /* NEON and anything else: the compiler vectorizes these short loops */
/* x > y ? x : y, so y where either is NaN, as on x86 */
INLINE vec FN(max)(vec x, vec y) { return FN(select)((ivec)(x > y), x, y); }
INLINE vec FN(min)(vec x, vec y) { return FN(select)((ivec)(x < y), x, y); }
INLINE vec FN(sqrt)(vec x) {
    for (int i = 0; i < LANES; i++) x[i] = (real)(FASTNN_DOUBLE ? sqrt(x[i]) : sqrtf((float)x[i]));
    return x;
}
INLINE vec FN(round)(vec x) {
    for (int i = 0; i < LANES; i++) x[i] = (real)(FASTNN_DOUBLE ? rint(x[i]) : rintf((float)x[i]));
    return x;
}
#endif
#endif
INLINE real FN(max_lane)(vec x) {
#if defined(__SSE4_1__) && FASTNN_DOUBLE
#if defined(__AVX2__)
    __m128d top =
        _mm_max_pd(_mm256_castpd256_pd128((__m256d)x), _mm256_extractf128_pd((__m256d)x, 1));
#else
    __m128d top = (__m128d)x;
#endif
    return _mm_cvtsd_f64(_mm_max_sd(top, _mm_unpackhi_pd(top, top)));
#elif defined(__SSE4_1__)
#if defined(__AVX2__)
    __m128 top = _mm_max_ps(_mm256_castps256_ps128((__m256)x), _mm256_extractf128_ps((__m256)x, 1));
#else
    __m128 top = (__m128)x;
#endif
    top = _mm_max_ps(top, _mm_movehl_ps(top, top));
    return _mm_cvtss_f32(_mm_max_ss(top, _mm_movehdup_ps(top)));
#else
    real top = x[0];
    for (int i = 1; i < LANES; i++) top = x[i] > top ? x[i] : top;
    return top;
#endif
}
#endif

INLINE vec FN(load_padded)(const real *p, ptrdiff_t n, real pad) {
    if (n >= LANES) return FN(load)(p);
#if defined(__AVX512F__) && FASTNN_DOUBLE
    SHOW(p, n);
    return (vec)_mm512_mask_loadu_pd((__m512d)VEC(pad), (__mmask8)((1u << n) - 1), p);
#elif defined(__AVX512F__)
    SHOW(p, n);
    return (vec)_mm512_mask_loadu_ps((__m512)VEC(pad), (__mmask16)((1u << n) - 1), p);
#else
    vec v = FN(load_part)(p, n);
    return pad == 0 ? v : FN(select)(FN(first_lanes)(n), v, VEC(pad));
#endif
}
INLINE void FN(store_padded)(real *p, vec v, ptrdiff_t n) {
    if (n >= LANES)
        FN(store)(p, v);
    else
        FN(store_part)(p, v, n);
}
INLINE vec FN(keep_first)(vec v, ptrdiff_t n) {
    return n >= LANES ? v : FN(select)(FN(first_lanes)(n), v, VEC(0));
}

/* The sum of all lanes, in halves; never -0, which lanes that nothing is added to would be. */
INLINE real FN(sum)(vec x) {
#if defined(__SSE4_1__) && FASTNN_DOUBLE
#if defined(__AVX512F__)
    const __m256d y = _mm512_castpd512_pd256((__m512d)x) + _mm512_extractf64x4_pd((__m512d)x, 1);
#elif defined(__AVX2__)
    const __m256d y = (__m256d)x;
#endif
#if defined(__AVX2__)
    const __m128d z = _mm256_castpd256_pd128(y) + _mm256_extractf128_pd(y, 1);
#else
    const __m128d z = (__m128d)x;
#endif
    return z[0] + z[1] + 0;
#elif defined(__SSE4_1__)
#if defined(__AVX512F__)
    const __m256 y = _mm512_castps512_ps256((__m512)x) + _mm512_extractf32x8_ps((__m512)x, 1);
#elif defined(__AVX2__)
    const __m256 y = (__m256)x;
#endif
#if defined(__AVX2__)
    __m128 z = _mm256_castps256_ps128(y) + _mm256_extractf128_ps(y, 1);
#else
    __m128 z = (__m128)x;
#endif
    z += _mm_movehl_ps(z, z);
    return z[0] + z[1] + 0;
#else
    UNROLL
    for (int half = (int)LANES / 2; half > 0; half /= 2)
        for (int i = 0; i < half; i++) x[i] += x[i + half];
    return x[0] + 0;
#endif
}

INLINE sums FN(no_sums)(void) {
    sums s;
    for (int p = 0; p < SUM_PARTS; p++) s.part[p] = VEC(0);
    return s;
}

/* The next LANES elements of a row */
INLINE void FN(add)(sums *s, vec x) {
    const vec part = s->part[0] + x;
    UNROLL
    for (int p = 1; p < SUM_PARTS; p++) s->part[p - 1] = s->part[p];
    s->part[SUM_PARTS - 1] = part;
}

INLINE real FN(total)(sums s) {
    UNROLL
    for (int half = SUM_PARTS / 2; half > 0; half /= 2)
        for (int p = 0; p < half; p++) s.part[p] += s.part[p + half];
    return FN(sum)(s.part[0]);
}
#endif
