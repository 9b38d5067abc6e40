/* The threads of one run: where they wait for each other, and on which processors they are.
 *
 * They are a few microseconds apart, so whoever comes first turns in a loop. If a thread has not begun yet, or another process has its
 * processor, turning may be what keeps it from running; then the others sleep.
 *
 * The system may wake a thread on the processor of the one that wakes it. The two would take turns
 * of milliseconds there, until the system notices that another processor has nothing to do, so a
 * thread that was woken looks where it is, and moves. */
#ifndef FASTNN_TEAM_H
#define FASTNN_TEAM_H
#include "wait.h"
#include <time.h>
#if defined(__linux__)
#include <sched.h>
#endif

enum { FASTNN_PLACES = 1024 }; /* processors that are looked after */

typedef struct {
    atomic_int arrived, begun;
    fastnn_word round;
    atomic_short on[FASTNN_PLACES]; /* the number of the thread on a processor, from 1; or 0 */
} fastnn_team;

/* Seconds since some moment. */
static inline double fastnn_now(void) {
#if defined(_WIN32)
    LARGE_INTEGER ticks, per_second;
    QueryPerformanceCounter(&ticks);
    QueryPerformanceFrequency(&per_second);
    return (double)ticks.QuadPart / (double)per_second.QuadPart;
#else
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
#endif
}

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

/* Returns once all of `threads` threads have called it. */
static inline void fastnn_team_wait(fastnn_team *team, int thread, int threads) {
    if (threads == 1) return;
    const int round = atomic_load_explicit(&team->round.value, memory_order_relaxed);
    if (atomic_fetch_add_explicit(&team->arrived, 1, memory_order_acq_rel) == threads - 1) {
        atomic_store_explicit(&team->arrived, 0, memory_order_relaxed);
        fastnn_word_set(&team->round, round + 1);
        return;
    }
    if (fastnn_word_turn(&team->round, round, FASTNN_FEW_TURNS)) return;
    if (atomic_load(&team->begun) == threads && fastnn_word_turn(&team->round, round, FASTNN_TURNS))
        return;
    fastnn_word_sleep(&team->round, round);
    fastnn_team_settle(team, thread);
}

#endif
