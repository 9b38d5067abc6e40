/* Picks the kernels for this processor and finds them by name. */
#ifndef FASTNN_DISPATCH_H
#define FASTNN_DISPATCH_H
#include "table.h"
#include <stdatomic.h>

/* The table in use; NULL until fastnn_dispatch has succeeded. */
extern const fastnn_table *fastnn_active;

/* Threads that a program or an optimizer step may use (at least 1). */
extern atomic_int fastnn_threads;

/* When several are used: where it has turned out to be faster (program.c), always or never. The
 * last two are for tests and for hunting a fault. */
enum { FASTNN_SHARE_LEARNED, FASTNN_SHARE_ALWAYS, FASTNN_SHARE_NEVER };
extern atomic_int fastnn_share;

/* Selects the variant named `request`, or the best one that this processor runs when
 * request is NULL or empty. Returns 0, or -1 if there is no such variant here. */
int fastnn_dispatch(const char *request);

/* The i-th variant in this build, best first, with whether this processor runs it;
 * NULL past the end. */
const char *fastnn_variant(int i, int *supported);

#endif
