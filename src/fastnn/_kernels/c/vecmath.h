/* Elementary functions of a vec, written once for float and double and for every width:
 * no branches, no tables, right at +-0, +-inf, NaN and denormals.
 *
 * Largest error over the whole range, in units in the last place (float over every input,
 * double over random ones), with or without a fused multiply-add:
 *
 *   vexp, vexpm1, vlog, vtanh, vsigmoid   2
 *   vgelu, vgelu_tanh, vsilu, vmish       4      vsoftplus   3
 *
 * The slopes (derivatives) of those with 4 are as good relative to the larger of their two
 * terms: they have a zero near which no formula in `real` is relatively accurate.
 *
 * Polynomials and rationals are minimax fits (Remez). */
#include "simd.h"
#if FASTNN_DOUBLE ? !defined(FASTNN_VECMATH_F64) : !defined(FASTNN_VECMATH_F32)
#if FASTNN_DOUBLE
#define FASTNN_VECMATH_F64
#else
#define FASTNN_VECMATH_F32
#endif

#undef MANTISSA_BITS
#undef EXPONENT_BIAS
#undef ROUNDER
#undef LOG2_E
#undef LN2_HIGH
#undef LN2_LOW
#if FASTNN_DOUBLE
#define MANTISSA_BITS 52
#define EXPONENT_BIAS 1023
#define ROUNDER 0x1.8p52 /* adding it rounds to an integer, left in the low bits of the sum */
#define LN2_HIGH 0x1.62e42feep-1 /* short, so that its product with an exponent is exact */
#define LN2_LOW 0x1.a39ef35793c76p-33
#else
#define MANTISSA_BITS 23
#define EXPONENT_BIAS 127
#define ROUNDER 0x1.8p23
#define LN2_HIGH 0x1.62e4p-1
#define LN2_LOW 0x1.7f7d1cp-20
#endif
#define LOG2_E 1.4426950408889634

#undef unsigned_vec
#define unsigned_vec FN(unsigned)
#undef COUNT
#define COUNT(array) ((int)(sizeof(array) / sizeof *(array)))

/* c[0] + c[1] x + ... by Horner's rule: the fewest operations, and the loops over an array keep
 * enough independent vectors in flight to hide the latency */
INLINE vec FN(polynomial)(vec x, const real *c, int count) {
    vec sum = VEC(c[count - 1]);
    for (int i = count - 2; i >= 0; i--) sum = FN(fma)(sum, x, VEC(c[i]));
    return sum;
}

INLINE vec FN(abs)(vec x) { return (vec)((ivec)x & ~(ivec)VEC(-0.0)); }

/* -1, 0 or 1; NaN of NaN */
INLINE vec FN(sign)(vec x) {
    vec one = (vec)((ivec)VEC(1) | ((ivec)x & (ivec)VEC(-0.0)));
    return FN(select)((ivec)(x < VEC(0)) | (ivec)(x > VEC(0)), one, x);
}

/* a b - product, exactly, where product = a * b rounded */
INLINE vec FN(product_error)(vec a, vec b, vec product) {
#if defined(__FMA__) || defined(__aarch64__)
    return FN(fma)(a, b, -product);
#else /* Dekker: the products of halves of the mantissa are exact */
    const ivec upper = IVEC(-1) << (MANTISSA_BITS / 2 + 1);
    vec a1 = (vec)((ivec)a & upper), a0 = a - a1;
    vec b1 = (vec)((ivec)b & upper), b0 = b - b1;
    return ((a1 * b1 - product) + a1 * b0 + a0 * b1) + a0 * b0;
#endif
}

/* 2^n for integers n within the exponents of normal numbers */
INLINE vec FN(power_of_two)(vec n) {
    return (vec)((unsigned_vec)(n + VEC(ROUNDER + EXPONENT_BIAS)) << MANTISSA_BITS);
}

/* x 2^n, rounded once, for integers n down to twice the smallest exponent of a normal number */
INLINE vec FN(scale)(vec x, vec n) {
#if defined(__AVX512F__) && FASTNN_DOUBLE
    return (vec)_mm512_scalef_pd((__m512d)x, (__m512d)n);
#elif defined(__AVX512F__)
    return (vec)_mm512_scalef_ps((__m512)x, (__m512)n);
#else
    const vec rounder = VEC(ROUNDER + EXPONENT_BIAS);
    vec half = FN(fma)(n, VEC(0.5), rounder), rest = (n + rounder) - (half - rounder);
    return x * (vec)((unsigned_vec)half << MANTISSA_BITS) *
           (vec)((unsigned_vec)rest << MANTISSA_BITS);
#endif
}

/* r of x = n ln 2 + r, for the integer n that makes |r| <= ln 2 / 2 */
INLINE vec FN(reduce)(vec x, vec *n) {
    *n = FN(fma)(x, VEC(LOG2_E), VEC(ROUNDER)) - VEC(ROUNDER);
    return FN(fma)(*n, VEC(-LN2_LOW), FN(fma)(*n, VEC(-LN2_HIGH), x));
}

/* -r of the same, without a step for the sign */
INLINE vec FN(reduce_negated)(vec x, vec *n) {
    *n = FN(fma)(x, VEC(LOG2_E), VEC(ROUNDER)) - VEC(ROUNDER);
    return FN(fma)(*n, VEC(LN2_LOW), FN(fma)(*n, VEC(LN2_HIGH), -x));
}

/* e^r - 1 for |r| <= ln 2 / 2 */
INLINE vec FN(expm1_reduced)(vec r) {
    static const real c[] = {
#if FASTNN_DOUBLE
        0.50000000000000051793,   0.16666666666666589275,   0.041666666666576755452,
        0.0083333333333895556074, 0.0013888888931564703752, 0.00019841269718998269249,
        2.480150527394687952e-5,  2.7557407550820144041e-6, 2.7626037840843602747e-7,
        2.5053772302078579956e-8,
#else
        0.5f, 0.166665465f, 0.0416669883f, 0.00836634636f, 0.00138822908f,
#endif
    };
    return FN(fma)(r * r, FN(polynomial)(r, c, COUNT(c)), r);
}

/* e^x. The lower bound makes both factors of the scale zero: e^-inf, which pads rows, comes
 * without the detour over denormals that slows many processors down. */
INLINE vec FN(vexp)(vec x) {
    const real low = FASTNN_DOUBLE ? -1418 : -176, high = FASTNN_DOUBLE ? 710 : 89;
    vec n, r = FN(reduce)(FN(min)(VEC(high), FN(max)(VEC(low), x)), &n);
    return FN(scale)(VEC(1) + FN(expm1_reduced)(r), n);
}

/* e^x - 1 for x <= 88 (double: 709); below -40 it is -1 */
INLINE vec FN(vexpm1)(vec x) {
    vec n, r = FN(reduce)(FN(max)(VEC(-40), x), &n), power = FN(power_of_two)(n);
    vec y = FN(fma)(power, FN(expm1_reduced)(r), power - VEC(1));
    return (vec)((ivec)y | ((ivec)x & (ivec)VEC(-0.0)));
}

/* log(1 + f) + k ln 2 for sqrt(1/2) - 1 <= f <= sqrt(2) - 1 and integers k, from
 * log(1 + f) = 2 artanh s, s = f / (2 + f) */
INLINE vec FN(log_reduced)(vec f, vec k) {
    static const real c[] = {
#if FASTNN_DOUBLE
        0.66666666666667348871, 0.39999999999411136835, 0.28571428743254235609,
        0.22222198476754090924, 0.18183569703598597787, 0.15313904100914141772,
        0.1479749973463115001,
#else
        0.66666776714748321f,
        0.39977495803835177f,
        0.29873068179654985f,
#endif
    };
    vec s = f / (VEC(2) + f), z = s * s, h = VEC(0.5) * f * f;
    vec bent = FN(fma)(z, FN(polynomial)(z, c, COUNT(c)), h);
    vec rest = FN(fma)(s, bent, k * VEC(LN2_LOW));
    return FN(fma)(k, VEC(LN2_HIGH), f - (h - rest));
}

/* log x */
INLINE vec FN(vlog)(vec x) {
    const int lift = MANTISSA_BITS + 1; /* brings denormals among the normal numbers */
    const real smallest = FASTNN_DOUBLE ? 0x1p-1022 : 0x1p-126f;
    ivec denormal = (ivec)(x < VEC(smallest));
    unsigned_vec bits = (unsigned_vec)FN(select)(denormal, x * VEC((int64_t)1 << lift), x);
    /* x = m 2^k with sqrt(1/2) <= m < sqrt(2), k + EXPONENT_BIAS unsigned */
    unsigned_vec k =
        (bits - (unsigned_vec)VEC(0.70710678118654752) + (unsigned_vec)VEC(1)) >> MANTISSA_BITS;
    vec m = (vec)(bits - ((k - EXPONENT_BIAS) << MANTISSA_BITS));
    vec unit = VEC((int64_t)1 << MANTISSA_BITS);
    vec exponent = (vec)(k + (unsigned_vec)unit) - unit - VEC(EXPONENT_BIAS); /* k as a real */
    exponent -= (vec)(denormal & (ivec)VEC(lift));
    vec y = FN(log_reduced)(m - VEC(1), exponent);
    vec outside = FN(select)((ivec)(x < VEC(0)), VEC(NAN), x);
    outside = FN(select)((ivec)(x == VEC(0)), VEC(-INFINITY), outside);
    return FN(select)((ivec)(x > VEC(0)) & (ivec)(x < VEC(INFINITY)), y, outside);
}

/* log(1 + x) for 0 <= x <= 1 */
INLINE vec FN(vlog1p_unit)(vec x) {
    ivec upper = (ivec)(x > VEC(0.41421356237309505));
    return FN(log_reduced)(FN(select)(upper, VEC(0.5) * x - VEC(0.5), x),
                           (vec)(upper & (ivec)VEC(1)));
}

/* log(1 + e^(beta x)) / beta = max(x, 0) + log(1 + e^-v) / beta, v = beta |x|, for beta > 0. The
 * product v is computed to twice the precision, and e^-v kept among normal numbers, for the
 * quotient may be one where e^-v is none; below 2^-60 log(1 + e^-v) is e^-v. */
INLINE vec FN(vsoftplus)(vec x, vec beta) {
    const vec limit = VEC(FASTNN_DOUBLE ? 1418 : 176), least = VEC(-60);
    vec size = FN(abs)(x), v = beta * size, n;
    vec v_low = FN(select)((ivec)(v < limit), FN(product_error)(beta, size, v), VEC(0));
    vec r = FN(reduce)(-FN(min)(v, limit), &n), held = FN(max)(n, least);
    vec e = FN(power_of_two)(held) * (VEC(1) + FN(expm1_reduced)(r - v_low));
    return FN(max)(VEC(0), x) + FN(scale)(FN(vlog1p_unit)(e) / beta, n - held);
}

/* tanh x = (e^2|x| - 1) / (e^2|x| + 1) with the sign of x, both divided by e^r, r of 2|x| */
INLINE vec FN(vtanh)(vec x) {
    vec n, r = FN(reduce_negated)(VEC(2) * FN(min)(VEC(20), FN(abs)(x)), &n);
    vec power = FN(power_of_two)(n), e = FN(expm1_reduced)(r);
    vec y = ((power - VEC(1)) - e) / ((power + VEC(1)) + e);
    return (vec)((ivec)y | ((ivec)x & (ivec)VEC(-0.0)));
}

/* sigmoid v = 2^n / denominator, for v = n ln 2 + r from expm1_reduced(-r) = e. The power of two
 * is left to the end, since it underflows before x sigmoid(v) does. */
INLINE vec FN(sigmoid_denominator)(vec n, vec e) {
    vec power = FN(scale)(VEC(1), n);
    return FN(max)(power, VEC(1)) + (FN(min)(power, VEC(1)) + e); /* the small ones first */
}

/* 1 / (1 + e^-x) */
INLINE vec FN(vsigmoid)(vec x) {
    const real low = FASTNN_DOUBLE ? -746 : -105;
    vec n, r = FN(reduce_negated)(FN(min)(VEC(40), FN(max)(VEC(low), x)), &n);
    return FN(scale)(VEC(1) / FN(sigmoid_denominator)(n, FN(expm1_reduced)(r)), n);
}

/* The derivative of x sigmoid(v(x)), where slope = x v'(x) */
INLINE vec FN(gate_slope)(vec slope, vec n, vec e) {
    vec reciprocal = VEC(1) / FN(sigmoid_denominator)(n, e);
    const vec bend = FN(fma)(slope, (VEC(1) + e) * reciprocal, VEC(1));
    return FN(scale)(reciprocal * bend, n);
}

/* x sigmoid(x) */
INLINE vec FN(vsilu)(vec x) {
    vec z = FN(max)(VEC(FASTNN_DOUBLE ? -760 : -110), x);
    vec n, r = FN(reduce_negated)(FN(min)(VEC(40), z), &n);
    return FN(scale)(z / FN(sigmoid_denominator)(n, FN(expm1_reduced)(r)), n);
}
INLINE vec FN(vsilu_slope)(vec x) {
    vec z = FN(min)(VEC(40), FN(max)(VEC(FASTNN_DOUBLE ? -760 : -110), x));
    vec n, r = FN(reduce_negated)(z, &n);
    return FN(gate_slope)(z, n, FN(expm1_reduced)(r));
}

/* e^x = w = (1 + e) 2^n and d of tanh log(1 + w) = w (w + 2) / d, for x up to 20, from where
 * that is 1. The power of two is left to the end, since it underflows before x w does. */
INLINE vec FN(mish_terms)(vec x, vec *n, vec *w, vec *d) {
    vec e = FN(expm1_reduced)(FN(reduce)(x, n));
    *w = FN(scale)(VEC(1) + e, *n);
    *d = FN(fma)(*w, *w + VEC(2), VEC(2));
    return e;
}

/* x tanh log(1 + e^x) = x (1 - 2 / d), or x w (1 - w (w + 1) / d) where that would cancel */
INLINE vec FN(vmish)(vec x) {
    vec z = FN(max)(VEC(FASTNN_DOUBLE ? -760 : -110), x);
    vec n, w, d, e = FN(mish_terms)(FN(min)(VEC(20), z), &n, &w, &d);
    ivec negative = (ivec)(z < VEC(0));
    vec part = FN(select)(negative, w * (w + VEC(1)), VEC(2)) / d;
    part += FN(select)(negative, FN(fma)(part, e, -e), VEC(0));
    vec factor = VEC(1) - part;
    return FN(scale)(z * factor, FN(min)(n, VEC(0)));
}
INLINE vec FN(vmish_slope)(vec x) {
    vec z = FN(min)(VEC(20), FN(max)(VEC(FASTNN_DOUBLE ? -760 : -110), x));
    vec n, w, d, e = FN(mish_terms)(z, &n, &w, &d), reciprocal = VEC(1) / d;
    vec bend = FN(fma)(VEC(4) * z, (w + VEC(1)) * reciprocal, w + VEC(2));
    return FN(scale)((VEC(1) + e) * reciprocal * bend, n);
}

/* e of sigmoid v, v = sqrt(8 / pi) (x + 0.044715 x^3). To base 2 v is x (k1 + k2 x^2) and reaches
 * -160 (double: -1100), so is computed to twice the precision. */
INLINE vec FN(gelu_tanh_expm1)(vec x, vec *n) {
#if FASTNN_DOUBLE
    const real k1 = 0x1.26aec21bce75p+1, k1_low = 0x1.2976942cda18ap-48;
    const real k2 = 0x1.a5a7cf7572a98p-4, k2_low = -0x1.b91c940e4cfcfp-58;
#else
    const real k1 = 0x1.26aecp+1f, k1_low = 0x1.0de73ap-22f;
    const real k2 = 0x1.a5a7dp-4f, k2_low = -0x1.151aaep-29f;
#endif
    vec square = x * x, square_low = FN(product_error)(x, x, square);
    vec cubic = VEC(k2) * square, cubic_low = FN(product_error)(VEC(k2), square, cubic);
    cubic_low += FN(fma)(VEC(k2), square_low, FN(fma)(VEC(k2_low), square, VEC(k1_low)));
    vec factor = VEC(k1) + cubic, factor_low = ((VEC(k1) - factor) + cubic) + cubic_low;
    vec v = x * factor, v_low = FN(fma)(x, factor_low, FN(product_error)(x, factor, v));
    *n = (v + VEC(ROUNDER)) - VEC(ROUNDER);
    return FN(expm1_reduced)(((*n - v) - v_low) * VEC(0.6931471805599453));
}

/* x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2 = x sigmoid(v) */
INLINE vec FN(vgelu_tanh)(vec x) {
    vec z = FN(max)(VEC(FASTNN_DOUBLE ? -21.75 : -11), x);
    vec n, e = FN(gelu_tanh_expm1)(FN(min)(VEC(8), z), &n);
    return FN(scale)(z / FN(sigmoid_denominator)(n, e), n);
}
INLINE vec FN(vgelu_tanh_slope)(vec x) {
    vec z = FN(min)(VEC(8), FN(max)(VEC(FASTNN_DOUBLE ? -21.75 : -11), x));
    vec n, e = FN(gelu_tanh_expm1)(z, &n);
    vec slope = z * FN(fma)(VEC(0.21406444881780075), z * z, VEC(1.5957691216057308));
    return FN(gate_slope)(slope, n, e);
}

/* For 0 <= a <= 15 (double: 39) the normal distribution's tail, whose hazard rate is close to a:
 *
 *   Phi(-a) = e^(-a^2 / 2) q(a) / d(a),   d(a) = sqrt(2 pi) a q(a) + p(a)
 *
 * with e^(-a^2 / 2) = (1 + e) 2^n, whose power of two is left to the end. */
INLINE vec FN(normal_tail)(vec a, vec *n, vec *q, vec *d) {
    static const real p_c[] = {
#if FASTNN_DOUBLE
        2.5,
        3.096919847725798545,
        1.961698511987582296,
        0.8066650462950426579,
        0.2338698355600452429,
        0.04920858558024124188,
        0.00749420619324994923,
        0.0007975627079660566036,
        0.00005411806731916314516,
        1.805188684819091837e-6,
#else
        3.29944229f, 2.08525085f, 0.689913690f, 0.124181770f, 0.0104114590f,
#endif
    };
    static const real q_c[] = {
#if FASTNN_DOUBLE
        1.25,
        2.117746894503691794,
        1.774559111859116849,
        0.9521605706250405299,
        0.3591975839694762171,
        0.09915049307440807207,
        0.02026342902814512547,
        0.003032935630564828454,
        0.0003196218185924211475,
        0.00002158998517637808918,
        7.20166090533540398e-7,
#else
        1.64972115f, 1.79395735f, 0.936592281f, 0.283109039f, 0.0495609455f, 0.00415318599f,
#endif
    };
    *q = FN(polynomial)(a, q_c, COUNT(q_c));
    *d = FN(fma)(VEC(2.5066282746310005), a * *q, FN(polynomial)(a, p_c, COUNT(p_c)));
    vec square = a * a, r = FN(reduce)(VEC(-0.5) * square, n);
    /* the square's rounding error matters far out */
    return FN(expm1_reduced)(FN(fma)(VEC(-0.5), FN(product_error)(a, a, square), r));
}

/* x Phi(x) = max(x, 0) - |x| Phi(-|x|), Phi the normal distribution */
INLINE vec FN(vgelu)(vec x) {
    vec a = FN(min)(VEC(FASTNN_DOUBLE ? 39 : 15), FN(abs)(x));
    vec n, q, d, e = FN(normal_tail)(a, &n, &q, &d), aq = a * q;
    return FN(max)(VEC(-0.0), x) - FN(scale)(FN(fma)(aq, e, aq) / d, n);
}
/* Phi(x) + x Phi'(x), which is 1 - its value at -x */
INLINE vec FN(vgelu_slope)(vec x) {
    vec a = FN(min)(VEC(FASTNN_DOUBLE ? 39 : 15), FN(abs)(x));
    vec n, q, d, e = FN(normal_tail)(a, &n, &q, &d);
    vec t = FN(fma)(VEC(-0.3989422804014327), a, q / d), tail = FN(scale)(FN(fma)(t, e, t), n);
    return FN(select)((ivec)(x < VEC(0)), tail, VEC(1) - tail);
}
#endif
