#include "dispatch.h"
#include <string.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

const fastnn_table *fastnn_active = NULL;
atomic_int fastnn_threads = 1;
atomic_int fastnn_share = FASTNN_SHARE_LEARNED;

/* Whether this processor runs what the compiler makes for a variant. The system must save its
 * registers, which __builtin_cpu_supports asks, too. */
#define RUNS __attribute__((unused)) static int
RUNS runs_base(void) { return 1; }
#if defined(__x86_64__)
RUNS runs_v2(void) {
    return __builtin_cpu_supports("sse3") && __builtin_cpu_supports("ssse3") &&
           __builtin_cpu_supports("sse4.1") && __builtin_cpu_supports("sse4.2") &&
           __builtin_cpu_supports("popcnt");
}
/* f16c, movbe and lzcnt, which not every compiler knows by name */
static int has_rest_of_v3(void) {
    unsigned eax, ebx, ecx, edx, more = 0;
    if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx)) return 0;
    if (!__get_cpuid(0x80000001, &eax, &ebx, &more, &edx)) return 0;
    return (ecx & bit_F16C) && (ecx & bit_MOVBE) && (more & 1 << 5);
}
RUNS runs_v3(void) {
    return runs_v2() && __builtin_cpu_supports("avx") && __builtin_cpu_supports("avx2") &&
           __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") &&
           __builtin_cpu_supports("bmi2") && has_rest_of_v3();
}
RUNS runs_v4(void) {
    return runs_v3() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl");
}
#endif

/* meson.build lists the variants of this build, best first. */
#define VARIANT(name) extern const fastnn_table fastnn_table_##name;
FASTNN_VARIANTS
#undef VARIANT
#define VARIANT(name) {&fastnn_table_##name, runs_##name},
static const struct {
    const fastnn_table *table;
    int (*runs)(void);
} variants[] = {FASTNN_VARIANTS};
#undef VARIANT

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
