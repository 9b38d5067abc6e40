/* The threads of one run: where they wait for each other, and on which processors they are.
 *
 * They are a few microseconds apart, so whoever comes first turns in a loop: OpenMP's barrier may
 * sleep, or turn for milliseconds. If a thread has not begun yet, or another process has its
 * processor, turning may be what keeps it from running; then the others sleep.
 *
 * The system may wake a thread on the processor of the one that wakes it. The two would take turns
 * of milliseconds there, until the system notices that another processor has nothing to do, so a
 * thread that was woken looks where it is, and moves. */
#ifndef FASTNN_TEAM_H
#define FASTNN_TEAM_H
#include <limits.h>
#include <stdatomic.h>
#include <time.h>
#if defined(__linux__)
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>
#elif defined(_WIN32)
#include <windows.h>
#else
#include <sched.h>
#endif
#if defined(__x86_64__)
#define RELAX() __builtin_ia32_pause()
#elif defined(__aarch64__)
#define RELAX() __asm__ volatile("isb")
#else
#define RELAX() ((void)0)
#endif

enum {
    FASTNN_TURNS = 1 << 16,     /* about a millisecond */
    FASTNN_FEW_TURNS = 1 << 11, /* about 30 microseconds, for threads that have not begun */
    FASTNN_PLACES = 1024,       /* processors that are looked after */
    FASTNN_FUTEX_WAIT = 128,    /* FUTEX_WAIT_PRIVATE and FUTEX_WAKE_PRIVATE of linux/futex.h, */
    FASTNN_FUTEX_WAKE = 129     /* which is not installed with every C library */
};

typedef struct {
    atomic_int arrived, round, sleeping, begun;
    atomic_short on[FASTNN_PLACES]; /* the number of the thread on a processor, from 1; or 0 */
} fastnn_team;

/* Claims a processor for a thread; false if another one has it. */
static inline int fastnn_team_claim(fastnn_team *team, int place, int thread) {
    short none = 0;
    return atomic_compare_exchange_strong(&team->on[place], &none, (short)(thread + 1)) ||
           none == thread + 1;
}

/* Makes sure that the calling thread has a processor of its own, if there are enough. */
static inline void fastnn_team_settle(fastnn_team *team, int thread) {
#if defined(__linux__)
    const int here = sched_getcpu();
    cpu_set_t allowed, one;
    if (here < 0 || here >= FASTNN_PLACES || fastnn_team_claim(team, here, thread)) return;
    if (sched_getaffinity(0, sizeof allowed, &allowed)) return;
    for (int place = 0; place < FASTNN_PLACES && place < CPU_SETSIZE; place++) {
        if (!CPU_ISSET(place, &allowed) || !fastnn_team_claim(team, place, thread)) continue;
        CPU_ZERO(&one);
        CPU_SET(place, &one);
        if (!sched_setaffinity(0, sizeof one, &one)) sched_setaffinity(0, sizeof allowed, &allowed);
        return;
    }
#else
    (void)team, (void)thread;
#endif
}

/* Begins a thread's part of the run. */
static inline void fastnn_team_join(fastnn_team *team, int thread) {
    fastnn_team_settle(team, thread);
    atomic_fetch_add(&team->begun, 1);
}

/* Lets the others begin first if they are slow to: one may have been woken on this processor. */
static inline void fastnn_team_gather(fastnn_team *team, int threads) {
    for (int turn = 0; turn < FASTNN_FEW_TURNS; turn++) {
        if (atomic_load(&team->begun) == threads) return;
        RELAX();
    }
#if defined(_WIN32)
    Sleep(0);
#else
    const struct timespec moment = {0, 1};
    nanosleep(&moment, NULL);
#endif
}

/* Sleeps while the team is in `round`; may return early. */
static inline void fastnn_team_sleep(fastnn_team *team, int round) {
#if defined(__linux__)
    syscall(SYS_futex, &team->round, FASTNN_FUTEX_WAIT, round, NULL, NULL, 0);
#elif defined(_WIN32)
    WaitOnAddress(&team->round, &round, sizeof round, INFINITE);
#else
    (void)team, (void)round;
    sched_yield();
#endif
}

static inline void fastnn_team_wake(fastnn_team *team) {
#if defined(__linux__)
    syscall(SYS_futex, &team->round, FASTNN_FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
#elif defined(_WIN32)
    WakeByAddressAll(&team->round);
#else
    (void)team;
#endif
}

/* Returns once all of `threads` threads have called it. */
static inline void fastnn_team_wait(fastnn_team *team, int thread, int threads) {
    if (threads == 1) return;
    const int round = atomic_load_explicit(&team->round, memory_order_relaxed);
    if (atomic_fetch_add_explicit(&team->arrived, 1, memory_order_acq_rel) == threads - 1) {
        atomic_store_explicit(&team->arrived, 0, memory_order_relaxed);
        /* in one order with the sleeper's: it sees the new round, or is seen to sleep */
        atomic_store(&team->round, round + 1);
        if (atomic_load(&team->sleeping)) fastnn_team_wake(team);
        return;
    }
    for (int turn = 0; turn < FASTNN_TURNS; turn++) {
        if (atomic_load_explicit(&team->round, memory_order_acquire) != round) return;
        if (turn >= FASTNN_FEW_TURNS && atomic_load(&team->begun) < threads) break;
        RELAX();
    }
    atomic_fetch_add(&team->sleeping, 1);
    while (atomic_load(&team->round) == round) fastnn_team_sleep(team, round);
    atomic_fetch_sub(&team->sleeping, 1);
    fastnn_team_settle(team, thread);
}

#endif
