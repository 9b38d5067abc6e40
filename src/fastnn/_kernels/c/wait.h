/* Waiting until another thread changes a word of memory: turning in a loop, then asleep. */
#ifndef FASTNN_WAIT_H
#define FASTNN_WAIT_H
#include <limits.h>
#include <stdatomic.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#elif defined(_WIN32)
#include <windows.h>
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
    FASTNN_FEW_TURNS = 1 << 11, /* about 30 microseconds */
    FASTNN_FUTEX_WAIT = 128,    /* FUTEX_WAIT_PRIVATE and FUTEX_WAKE_PRIVATE of linux/futex.h, */
    FASTNN_FUTEX_WAKE = 129     /* which is not installed with every C library */
};

typedef struct {
    atomic_int value, sleepers;
} fastnn_word;

/* Where the system has no call for it (macOS): a condition that all words share, in pool.c. */
void fastnn_condition_wait(fastnn_word *word, int old);
void fastnn_condition_wake(void);

/* Turns while the word is `old`, so often at most; returns whether it has changed. */
static inline int fastnn_word_turn(fastnn_word *word, int old, int turns) {
    for (int turn = 0; turn < turns; turn++) {
        if (atomic_load_explicit(&word->value, memory_order_acquire) != old) return 1;
        RELAX();
    }
    return 0;
}

/* Sleeps while the word is `old`. */
static inline void fastnn_word_sleep(fastnn_word *word, int old) {
    atomic_fetch_add(&word->sleepers, 1);
    while (atomic_load(&word->value) == old) {
#if defined(__linux__)
        syscall(SYS_futex, &word->value, FASTNN_FUTEX_WAIT, old, NULL, NULL, 0);
#elif defined(_WIN32)
        WaitOnAddress(&word->value, &old, sizeof old, INFINITE);
#else
        fastnn_condition_wait(word, old);
#endif
    }
    atomic_fetch_sub(&word->sleepers, 1);
}

/* Changes the word and wakes who sleeps. */
static inline void fastnn_word_set(fastnn_word *word, int value) {
    /* in one order with the sleeper's: it sees the new value, or is seen to sleep */
    atomic_store(&word->value, value);
    if (!atomic_load(&word->sleepers)) return;
#if defined(__linux__)
    syscall(SYS_futex, &word->value, FASTNN_FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
#elif defined(_WIN32)
    WakeByAddressAll((void *)&word->value);
#else
    fastnn_condition_wake();
#endif
}

#endif
