#define _GNU_SOURCE /* sched_getcpu, syscall */
#include "program.h"
#include "dispatch.h"
#include "fpmode.h"
#include "pool.h"
#include "team.h"

/* Shares [0, n) evenly; the borders fall on multiples of `grain`, so that threads seldom
 * write to one cache line and kernels seldom see a remainder. No result depends on them. */
static ptrdiff_t border(ptrdiff_t n, ptrdiff_t grain, int part, int parts) {
    if (part == parts) return n;
    ptrdiff_t blocks = (n + grain - 1) / grain;
    ptrdiff_t at = blocks * part / parts * grain;
    return at < n ? at : n;
}

static void run_thread(const fastnn_run *r, fastnn_team *team, int thread, int threads) {
    const fastnn_fpmode mode = r->keep_denormals ? fastnn_fpmode_read() : fastnn_fpmode_flush();
    char *scratch = r->scratch ? r->scratch + (ptrdiff_t)thread * FASTNN_SCRATCH : NULL;
    /* with few rows an even share counts for more than whole blocks */
    const ptrdiff_t grain = r->rows >= 64 * threads ? 8 : 1;
    ptrdiff_t row_begin = border(r->rows, grain, thread, threads);
    ptrdiff_t row_end = border(r->rows, grain, thread + 1, threads);
    for (ptrdiff_t i = 0; i < r->count; i++) {
        const fastnn_call *c = &r->calls[i];
        if (i > 0 && c->waits) fastnn_team_wait(team, thread, threads);
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
            fastnn_team_wait(team, thread, threads);
            if (!*r->failed) fastnn_update_phase(r->update, phase, thread, threads);
        }
    }
    fastnn_fpmode_restore(mode);
}

/* In seconds: runs longer than this are not tried on one thread for comparison; what several
 * threads may lose at first, when they are tried again (the first runs find threads asleep and
 * caches cold), and at most after they have gained as much; how long one thread is used after they
 * have lost more, twice as long each time in a row. */
#define LONG_RUN 5e-3
#define FIRST_CREDIT 10e-3
#define NEXT_CREDIT 3e-3
#define MOST_CREDIT 20e-3
#define ALONE 20e-3
enum { MOST_LOSSES = 6 };

/* Learns from a run. Several threads lose where there is too little to share, or where another
 * process has one of the processors: then all wait for the thread that is kept from running, by
 * milliseconds. That may happen now and then, so gains and losses are added up. */
static void judge(fastnn_pace *p, int threads, double rows, double start, double end) {
    const double taken = end - start;
    if (threads == 1) {
        const double per_row = taken / rows, known = 1.02 * p->one;
        p->one = p->one == 0 || per_row < known ? per_row : known;
        if (p->probes > 0) p->probes--;
        return;
    }
    if (p->one == 0) {
        p->probes = taken < LONG_RUN ? 2 : 0;
        p->credit = FIRST_CREDIT;
        return;
    }
    p->credit += p->one * rows - taken;
    if (p->credit > MOST_CREDIT) {
        p->credit = MOST_CREDIT;
        p->losses = 0;
    } else if (p->credit < 0) {
        p->credit = NEXT_CREDIT;
        p->alone_until = end + ALONE * (1 << p->losses);
        if (p->losses < MOST_LOSSES) p->losses++;
    }
}

typedef struct {
    const fastnn_run *run;
    fastnn_team team;
} shared_run;

static void run_part(void *work, int thread, int threads) {
    shared_run *s = work;
    if (thread == 0)
        fastnn_team_gather(&s->team, threads);
    else
        fastnn_team_join(&s->team, thread);
    run_thread(s->run, &s->team, thread, threads);
}

static int run_shared(const fastnn_run *r, int threads) {
    if (threads > 1) {
        shared_run s = {.run = r};
        fastnn_team_join(&s.team, 0); /* it stays where it is, the others make room */
        return fastnn_pool_share(run_part, &s, threads);
    }
    run_thread(r, NULL, 0, 1);
    return 1;
}

int fastnn_execute(const fastnn_run *r) {
    if (r->threads == 1) return run_shared(r, 1);
    const double start = fastnn_now();
    const int learns = !atomic_exchange(&r->pace->used, 1);
    const int alone = learns && fastnn_share != FASTNN_SHARE_ALWAYS &&
                      (r->pace->probes > 0 || start < r->pace->alone_until);
    const int share = fastnn_pool_enter(r->threads);
    const int threads = run_shared(r, alone ? 1 : share);
    fastnn_pool_leave();
    if (learns) {
        judge(r->pace, threads, r->rows ? (double)r->rows : 1, start, fastnn_now());
        atomic_store(&r->pace->used, 0);
    }
    return threads;
}

double fastnn_sum(const void *values, ptrdiff_t n, int is_double) {
    double total = 0;
    for (ptrdiff_t i = 0; i < n; i++)
        total += is_double ? ((const double *)values)[i] : ((const float *)values)[i];
    return total;
}
