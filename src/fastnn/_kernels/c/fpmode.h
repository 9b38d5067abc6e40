/* Denormals as zero, for the calling thread, for the length of a training or optimizer step:
 * arithmetic on them takes over a hundred cycles on some processors, and a moment that decays
 * towards zero passes through all of them. */
#ifndef FASTNN_FPMODE_H
#define FASTNN_FPMODE_H

#if defined(__x86_64__)
#include <xmmintrin.h>
typedef unsigned int fastnn_fpmode;
enum { FASTNN_FLUSH = 0x8040 }; /* MXCSR: flush to zero, denormals are zero */
static inline fastnn_fpmode fastnn_fpmode_read(void) { return _mm_getcsr(); }
static inline void fastnn_fpmode_restore(fastnn_fpmode mode) { _mm_setcsr(mode); }
#elif defined(__aarch64__)
typedef unsigned long fastnn_fpmode;
enum { FASTNN_FLUSH = 1 << 24 }; /* FPCR.FZ */
static inline fastnn_fpmode fastnn_fpmode_read(void) {
    fastnn_fpmode mode;
    __asm__ volatile("mrs %0, fpcr" : "=r"(mode));
    return mode;
}
static inline void fastnn_fpmode_restore(fastnn_fpmode mode) {
    __asm__ volatile("msr fpcr, %0" : : "r"(mode));
}
#else
typedef int fastnn_fpmode;
enum { FASTNN_FLUSH = 0 };
static inline fastnn_fpmode fastnn_fpmode_read(void) { return 0; }
static inline void fastnn_fpmode_restore(fastnn_fpmode mode) { (void)mode; }
#endif

/* Turns flushing on; returns the mode to restore. */
static inline fastnn_fpmode fastnn_fpmode_flush(void) {
    fastnn_fpmode mode = fastnn_fpmode_read();
    fastnn_fpmode_restore(mode | FASTNN_FLUSH);
    return mode;
}

#endif
