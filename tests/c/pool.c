/* Has the threads of the pool share work: many times, from several threads at once, after they have
 * fallen asleep and in a forked child. Every part must run once, and all must meet. */
#define _GNU_SOURCE /* sched_getcpu, syscall */
#include "dispatch.h"
#include "pool.h"
#include "team.h"
#include <stdio.h>
#if !defined(_WIN32)
#include <sys/wait.h>
#include <unistd.h>
#endif

enum { THREADS = 4, ROUNDS = 100, MEETINGS = 3 };

typedef struct {
    fastnn_team team;
    atomic_int done[MEETINGS][THREADS];
    atomic_int wrong;
} work;

static void part(void *shared, int thread, int threads) {
    work *w = shared;
    if (thread == 0)
        fastnn_team_gather(&w->team, threads);
    else
        fastnn_team_join(&w->team, thread);
    for (int meeting = 0; meeting < MEETINGS; meeting++) {
        atomic_fetch_add(&w->done[meeting][thread], 1);
        fastnn_team_wait(&w->team, thread, threads);
        for (int other = 0; other < threads; other++)
            if (atomic_load(&w->done[meeting][other]) != 1) atomic_fetch_add(&w->wrong, 1);
    }
}

/* Returns how many threads there were; 0 if something went wrong. */
static int share(int threads) {
    work w = {0};
    fastnn_team_join(&w.team, 0);
    const int count = fastnn_pool_share(part, &w, threads);
    return count < 1 || count > threads || atomic_load(&w.wrong) ? 0 : count;
}

/* What several callers do at once: the workers that one has, the others do without. */
static void call(void *shared, int thread, int threads) {
    atomic_int *wrong = shared;
    (void)threads;
    for (int round = 0; round < ROUNDS; round++) {
        const int limit = fastnn_pool_enter(THREADS);
        if (!share(2 + (round + thread) % (THREADS - 1)) || limit > THREADS)
            atomic_fetch_add(wrong, 1);
        fastnn_pool_leave();
    }
}

static void pause_longer_than_they_turn(void) {
#if defined(_WIN32)
    Sleep(5);
#else
    const struct timespec moment = {0, 5000000};
    nanosleep(&moment, NULL);
#endif
}

static int all_is_well(void) {
    atomic_int wrong = 0;
    for (int round = 0; round < ROUNDS; round++)
        if (share(THREADS) != THREADS) return 0;
    for (int round = 0; round < 20; round++) {
        pause_longer_than_they_turn();
        if (share(THREADS) != THREADS) return 0;
    }
    fastnn_pool_share(call, &wrong, THREADS - 1);
    return !wrong && share(THREADS) == THREADS;
}

int main(void) {
    fastnn_threads = THREADS;
    if (!all_is_well()) return printf("pool: wrong\n"), 1;
#if !defined(_WIN32)
    const pid_t child = fork();
    if (child == 0) _exit(!all_is_well());
    int status = 1;
    if (waitpid(child, &status, 0) != child || status) return printf("pool: wrong in a child\n"), 1;
#endif
    fastnn_stay_alone();
    if (fastnn_thread_limit() != 1) return printf("pool: not alone\n"), 1;
    printf("pool: shares, sleeps and starts anew\n");
    return 0;
}
