#include "program.h"
#include "fpmode.h"
#include <sched.h>
#include <stdatomic.h>
#ifdef _OPENMP
#include <omp.h>
#endif
#if defined(__x86_64__)
#define RELAX() __builtin_ia32_pause()
#else
#define RELAX() ((void)0)
#endif

/* Waits shorter than OpenMP's, which sleeps when it believes the processors to be taken: the
 * threads of a step are a few microseconds apart. Yields when they are not. */
typedef struct {
    atomic_int arrived, round;
} meeting;

static void meet(meeting *m, int threads) {
    if (threads == 1) return;
    int round = atomic_load_explicit(&m->round, memory_order_relaxed);
    if (atomic_fetch_add_explicit(&m->arrived, 1, memory_order_acq_rel) == threads - 1) {
        atomic_store_explicit(&m->arrived, 0, memory_order_relaxed);
        atomic_store_explicit(&m->round, round + 1, memory_order_release);
        return;
    }
    for (int turns = 0; atomic_load_explicit(&m->round, memory_order_acquire) == round; turns++) {
        if (turns < 4000)
            RELAX();
        else
            sched_yield();
    }
}

/* Shares [0, n) evenly; the borders fall on multiples of `grain`, so that threads seldom
 * write to one cache line and micro-kernels seldom see a remainder. */
static ptrdiff_t border(ptrdiff_t n, ptrdiff_t grain, int part, int parts) {
    if (part == parts) return n;
    ptrdiff_t blocks = (n + grain - 1) / grain;
    ptrdiff_t at = blocks * part / parts * grain;
    return at < n ? at : n;
}

static void run_thread(const fastnn_run *r, meeting *m, int thread, int threads) {
    fastnn_fpmode mode = fastnn_fpmode_flush();
    char *scratch = r->scratch + (ptrdiff_t)thread * FASTNN_SCRATCH;
    /* with few rows an even share counts for more than whole blocks */
    const ptrdiff_t grain = r->rows >= 64 * threads ? 8 : 1;
    ptrdiff_t row_begin = border(r->rows, grain, thread, threads);
    ptrdiff_t row_end = border(r->rows, grain, thread + 1, threads);
    for (ptrdiff_t i = 0; i < r->count; i++) {
        const fastnn_call *c = &r->calls[i];
        if (i > 0 && c->waits) meet(m, threads);
        if (*r->failed) continue;
        ptrdiff_t begin = 0, end = c->items;
        if (c->split == FASTNN_BY_ROWS) {
            begin = row_begin * c->items;
            end = row_end * c->items;
        } else if (c->split == FASTNN_BY_ITEMS) {
            begin = border(c->items, 8, thread, threads);
            end = border(c->items, 8, thread + 1, threads);
        } else if (thread != 0) {
            continue;
        }
        if (begin < end) c->op.kernel(&c->op.args, begin, end, scratch);
    }
    if (r->update) {
        int phases = fastnn_update_phases(r->update);
        for (int phase = 0; phase < phases; phase++) {
            meet(m, threads);
            if (!*r->failed) fastnn_update_phase(r->update, phase, thread, threads);
        }
    }
    fastnn_fpmode_restore(mode);
}

void fastnn_execute(const fastnn_run *r) {
    meeting m = {0};
#ifdef _OPENMP
    if (r->threads > 1) {
#pragma omp parallel num_threads(r->threads)
        run_thread(r, &m, omp_get_thread_num(), omp_get_num_threads());
        return;
    }
#endif
    run_thread(r, &m, 0, 1);
}

double fastnn_sum(const void *values, ptrdiff_t n, int is_double) {
    double total = 0;
    for (ptrdiff_t i = 0; i < n; i++)
        total += is_double ? ((const double *)values)[i] : ((const float *)values)[i];
    return total;
}
