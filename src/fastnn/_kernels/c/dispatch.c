#include "dispatch.h"
#include <string.h>

const fastnn_table *fastnn_active = NULL;
int fastnn_threads = 1;
int fastnn_share = FASTNN_SHARE_LEARNED;

#if defined(__x86_64__)
extern const fastnn_table fastnn_table_v4, fastnn_table_v3, fastnn_table_v2;

static int runs_v2(void) {
    return __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("popcnt");
}
static int runs_v3(void) {
    return runs_v2() && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
           __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
}
static int runs_v4(void) {
    return runs_v3() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl");
}
static const struct {
    const fastnn_table *table;
    int (*runs)(void);
} variants[] = {
    {&fastnn_table_v4, runs_v4}, {&fastnn_table_v3, runs_v3}, {&fastnn_table_v2, runs_v2}};
#else
extern const fastnn_table fastnn_table_base;
static int runs_base(void) { return 1; }
static const struct {
    const fastnn_table *table;
    int (*runs)(void);
} variants[] = {{&fastnn_table_base, runs_base}};
#endif

enum { VARIANTS = sizeof variants / sizeof *variants };

const char *fastnn_variant(int i, int *supported) {
    if (i >= VARIANTS) return NULL;
    *supported = variants[i].runs();
    return variants[i].table->isa;
}

int fastnn_dispatch(const char *request) {
    for (int i = 0; i < VARIANTS; i++) {
        int wanted = !request || !*request || !strcmp(request, variants[i].table->isa);
        if (wanted && variants[i].runs()) {
            fastnn_active = variants[i].table;
            return 0;
        }
    }
    return -1;
}
