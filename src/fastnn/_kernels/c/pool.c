#define _GNU_SOURCE /* syscall */
#include "pool.h"
#include "dispatch.h"
#include "wait.h"
#if !defined(_WIN32)
#include <pthread.h>
#include <signal.h>
#endif

enum {
    MOST_WORKERS = 1023,
    IDLE_TURNS = 1 << 13, /* after a run, as the next one often follows: about 100 microseconds */
    STACK = 1 << 20
};

/* Who has a worker: nobody has made it, nobody needs it, or a run. */
enum { ABSENT, FREE, TAKEN };

typedef struct worker {
    _Alignas(64) atomic_int state;
    fastnn_word jobs; /* twice as many as it has done, one more while it does one */
    fastnn_part part;
    void *work;
    int thread, threads, job;
    struct worker *next; /* of the same run */
} worker;

static worker workers[MOST_WORKERS];
static atomic_int runs;

#if defined(_WIN32) /* GCC's own variables of threads would bring a library with them */
static DWORD slot;
__attribute__((constructor)) static void take_slot(void) { slot = TlsAlloc(); }
static int is_alone(void) { return TlsGetValue(slot) != NULL; }
void fastnn_stay_alone(void) { TlsSetValue(slot, &slot); }
#else
static _Thread_local int alone;
static int is_alone(void) { return alone; }
void fastnn_stay_alone(void) { alone = 1; }
#endif

int fastnn_thread_limit(void) { return is_alone() ? 1 : fastnn_threads; }

int fastnn_pool_enter(int limit) {
    const int share = limit / (atomic_fetch_add(&runs, 1) + 1);
    return share > 1 ? share : 1;
}
void fastnn_pool_leave(void) { atomic_fetch_sub(&runs, 1); }

static void serve(worker *w) {
    for (int jobs = 0;; jobs += 2) {
        if (!fastnn_word_turn(&w->jobs, jobs, IDLE_TURNS)) fastnn_word_sleep(&w->jobs, jobs);
        w->part(w->work, w->thread, w->threads);
        fastnn_word_set(&w->jobs, jobs + 2);
    }
}

#if defined(_WIN32)
static DWORD WINAPI begin(void *w) {
    serve(w);
    return 0;
}
static int make(worker *w) {
    HANDLE thread = CreateThread(NULL, STACK, begin, w, STACK_SIZE_PARAM_IS_A_RESERVATION, NULL);
    return thread && CloseHandle(thread);
}
#else
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
void fastnn_condition_wait(fastnn_word *word, int old) {
    pthread_mutex_lock(&mutex);
    while (atomic_load(&word->value) == old) pthread_cond_wait(&condition, &mutex);
    pthread_mutex_unlock(&mutex);
}
void fastnn_condition_wake(void) {
    pthread_mutex_lock(&mutex);
    pthread_cond_broadcast(&condition);
    pthread_mutex_unlock(&mutex);
}

/* A forked child has the thread alone that forked. */
static void forget(void) {
    for (int i = 0; i < MOST_WORKERS; i++)
        if (atomic_load(&workers[i].state) != ABSENT) workers[i] = (worker){0};
    atomic_store(&runs, 0);
    mutex = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
    condition = (pthread_cond_t)PTHREAD_COND_INITIALIZER;
}
__attribute__((constructor)) static void forget_in_children(void) {
    pthread_atfork(NULL, NULL, forget);
}

static void *begin(void *w) {
    serve(w);
    return NULL;
}
static int make(worker *w) {
    pthread_t thread;
    pthread_attr_t attributes;
    sigset_t all, old;
    sigfillset(&all);
    if (pthread_attr_init(&attributes)) return 0;
    pthread_attr_setstacksize(&attributes, STACK);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_sigmask(SIG_SETMASK, &all, &old); /* signals are for the threads of the program */
    const int made = !pthread_create(&thread, &attributes, begin, w);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_attr_destroy(&attributes);
    return made;
}
#endif

/* Takes a worker for a run, which is made if need be; returns whether the run has it. */
static int take(worker *w) {
    int state = FREE;
    if (atomic_compare_exchange_strong(&w->state, &state, TAKEN)) return 1;
    if (state != ABSENT || !atomic_compare_exchange_strong(&w->state, &state, TAKEN)) return 0;
    if (make(w)) return 1;
    atomic_store(&w->state, ABSENT);
    return 0;
}

int fastnn_pool_share(fastnn_part part, void *work, int threads) {
    worker *taken = NULL;
    int count = 1;
    for (int i = 0; i < MOST_WORKERS && i < fastnn_threads - 1 && count < threads; i++) {
        worker *w = &workers[i];
        if (take(w)) {
            w->part = part, w->work = work, w->thread = count++, w->next = taken;
            taken = w;
        } else if (atomic_load(&w->state) == ABSENT) {
            break; /* the system has no more threads */
        }
    }
    for (worker *w = taken; w; w = w->next) {
        w->threads = count;
        w->job = atomic_load(&w->jobs.value) + 1;
        fastnn_word_set(&w->jobs, w->job);
    }
    part(work, 0, count);
    while (taken) {
        worker *w = taken;
        taken = w->next;
        if (!fastnn_word_turn(&w->jobs, w->job, FASTNN_TURNS)) fastnn_word_sleep(&w->jobs, w->job);
        atomic_store(&w->state, FREE);
    }
    return count;
}
