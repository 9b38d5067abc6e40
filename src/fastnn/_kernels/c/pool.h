/* The threads that runs are shared among. They are made when a run first wants them, sleep between
 * runs, and are the same for all runs of the process. */
#ifndef FASTNN_POOL_H
#define FASTNN_POOL_H

/* Part number `thread` of work that `threads` threads share. */
typedef void (*fastnn_part)(void *work, int thread, int threads);

/* How many of `limit` threads a run may have beside the others that are under way; to be followed
 * by fastnn_pool_leave. */
int fastnn_pool_enter(int limit);
void fastnn_pool_leave(void);

/* Has all parts of some work done, number 0 by the calling thread, and returns how many there
 * were: at most `threads`, fewer if others are at work for somebody else or cannot be made. */
int fastnn_pool_share(fastnn_part part, void *work, int threads);

/* Lets the calling thread run everything by itself from now on. */
void fastnn_stay_alone(void);

/* Threads that a run of the calling thread may use (at least 1). */
int fastnn_thread_limit(void);

#endif
