/* Where the threads of a run wait for each other.
 *
 * They are a few microseconds apart, so whoever comes first turns in a loop for a while: OpenMP's
 * barrier would sleep, or spin for milliseconds. If another process has the processor that a
 * missing thread needs, turning keeps that thread from running, and sched_yield need not hand the
 * processor over; sleeping lets it run here. */
#ifndef FASTNN_BARRIER_H
#define FASTNN_BARRIER_H
#include <limits.h>
#include <sched.h>
#include <stdatomic.h>
#if defined(__linux__)
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif
#if defined(__x86_64__)
#define RELAX() __builtin_ia32_pause()
#elif defined(__aarch64__)
#define RELAX() __asm__ volatile("isb")
#else
#define RELAX() ((void)0)
#endif

enum { FASTNN_TURNS = 2000 }; /* some 30 microseconds */

typedef struct {
    atomic_int arrived, round, sleeping;
} fastnn_barrier;

/* Sleeps while the barrier is in `round`; may return early. */
static inline void fastnn_barrier_sleep(fastnn_barrier *b, int round) {
#if defined(__linux__)
    syscall(SYS_futex, &b->round, FUTEX_WAIT_PRIVATE, round, NULL, NULL, 0);
#else
    (void)b, (void)round;
    sched_yield();
#endif
}

static inline void fastnn_barrier_wake(fastnn_barrier *b) {
#if defined(__linux__)
    syscall(SYS_futex, &b->round, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
#else
    (void)b;
#endif
}

/* Returns once all of `threads` threads have called it. */
static inline void fastnn_barrier_wait(fastnn_barrier *b, int threads) {
    if (threads == 1) return;
    int round = atomic_load_explicit(&b->round, memory_order_relaxed);
    if (atomic_fetch_add_explicit(&b->arrived, 1, memory_order_acq_rel) == threads - 1) {
        atomic_store_explicit(&b->arrived, 0, memory_order_relaxed);
        /* in one order with the sleeper's: it sees the new round, or is seen to sleep */
        atomic_store(&b->round, round + 1);
        if (atomic_load(&b->sleeping)) fastnn_barrier_wake(b);
        return;
    }
    for (int turn = 0; turn < FASTNN_TURNS; turn++) {
        if (atomic_load_explicit(&b->round, memory_order_acquire) != round) return;
        RELAX();
    }
    atomic_fetch_add(&b->sleeping, 1);
    while (atomic_load(&b->round) == round) fastnn_barrier_sleep(b, round);
    atomic_fetch_sub(&b->sleeping, 1);
}

#endif
