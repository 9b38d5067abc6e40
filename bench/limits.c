/* What this processor can do at best: loops that nothing but arithmetic or memory can hold back. */
#include <stddef.h>

#if defined __AVX512F__
#define BYTES 64
#elif defined __AVX__
#define BYTES 32
#else
#define BYTES 16
#endif

/* A variable for each sum: an array of them may be put into memory. They are enough to wait for none,
   and with two operands fill the registers. */
#if defined __AVX512F__ || defined __aarch64__
#define SUMS 24
#define EACH(S) EACH_OF_12(S, a) EACH_OF_12(S, b)
#else
#define SUMS 12
#define EACH(S) EACH_OF_12(S, a)
#endif
#define EACH_OF_12(S, x)                                                                           \
    S(x##0)                                                                                        \
    S(x##1) S(x##2) S(x##3) S(x##4) S(x##5) S(x##6) S(x##7) S(x##8) S(x##9) S(x##10) S(x##11)

#define BEGIN(sum) vec sum = total = total * factor; /* no two alike, or one would do for all */
#define STEP(sum) sum = sum * factor + term;
#define END(sum) total += sum;

/* n times SUMS multiply-adds of whole registers, none of which waits for the one before. Returns the
   operations of one time. */
#define MULTIPLY_ADDS(real)                                                                        \
    ptrdiff_t multiply_adds_##real(ptrdiff_t n, real *out) {                                       \
        typedef real vec __attribute__((vector_size(BYTES)));                                      \
        vec factor = (vec){0} + out[0], term = (vec){0} + out[1], total = term;                    \
        EACH(BEGIN)                                                                                \
        while (n--) {                                                                              \
            EACH(STEP)                                                                             \
        }                                                                                          \
        total = term;                                                                              \
        EACH(END)                                                                                  \
        out[2] = total[0];                                                                         \
        return 2 * SUMS * (BYTES / (ptrdiff_t)sizeof(real));                                       \
    }

MULTIPLY_ADDS(float)
MULTIPLY_ADDS(double)

/* n times a += b: 12 bytes of memory for each element. */
void add(ptrdiff_t n, ptrdiff_t length, float *restrict a, const float *restrict b) {
    while (n--) {
        for (ptrdiff_t i = 0; i < length; i++) a[i] += b[i];
        __asm__ volatile("" ::: "memory"); /* each time is its own */
    }
}
