/* Powers of an optimizer's decay rates, by integers alone: C libraries round pow each in its way,
 * and weights are to have the same bits with all of them. */
#ifndef FASTNN_POWER_H
#define FASTNN_POWER_H
#include <stdint.h>

__extension__ typedef unsigned __int128 fastnn_fraction; /* in units of 2^-128 */

/* a b rounded down, up to 2 units below it */
static inline fastnn_fraction fastnn_multiply(fastnn_fraction a, fastnn_fraction b) {
    uint64_t high_a = (uint64_t)(a >> 64), low_a = (uint64_t)a;
    uint64_t high_b = (uint64_t)(b >> 64), low_b = (uint64_t)b;
    return (fastnn_fraction)high_a * high_b + ((fastnn_fraction)high_a * low_b >> 64) +
           ((fastnn_fraction)low_a * high_b >> 64);
}

/* base^exponent for 0 <= base < 1 and whole exponents >= 1, rounded to the nearest but for what
 * 1 - base^exponent does not see: powers below 2^-10 may be 2^-63 away. */
static inline double fastnn_power(double base, double exponent) {
    uint64_t n = exponent < 0x1p63 ? (uint64_t)exponent : (uint64_t)1 << 63;
    fastnn_fraction square = (fastnn_fraction)(uint64_t)(base * 0x1p64) << 64;
    fastnn_fraction power = ~(fastnn_fraction)0; /* as good as 1 */
    for (;; square = fastnn_multiply(square, square)) {
        if (n & 1) power = fastnn_multiply(power, square);
        n >>= 1;
        if (n == 0 || power >> 64 == 0) break;
    }
    /* What is cut off lies below, and must not make a half of a unit in the last place. */
    return (double)((uint64_t)(power >> 64) | 1) * 0x1p-64;
}

#endif
