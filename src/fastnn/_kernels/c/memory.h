/* Memory at the start of a cache line, on every system. */
#ifndef FASTNN_MEMORY_H
#define FASTNN_MEMORY_H
#include <stdlib.h>
#if defined(_WIN32)
#include <malloc.h>
#endif

enum { FASTNN_ALIGNMENT = 64 };

/* Returns NULL if there is not enough. */
static inline void *fastnn_allocate(size_t bytes) {
#if defined(_WIN32)
    return _aligned_malloc(bytes, FASTNN_ALIGNMENT);
#else
    void *data = NULL;
    return posix_memalign(&data, FASTNN_ALIGNMENT, bytes) ? NULL : data;
#endif
}

/* Takes what fastnn_allocate gave, or NULL. */
static inline void fastnn_free(void *data) {
#if defined(_WIN32)
    _aligned_free(data);
#else
    free(data);
#endif
}

#endif
