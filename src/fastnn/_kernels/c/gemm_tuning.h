/* The numbers that decide how a matrix product is computed, for the instruction set of this build.
 * They change how long it takes and no bit of it, but for K_BYTES, which gives the order of a sum.
 *
 * Times were measured in float on one core of a Zen 5 (48 kB and 1 MB of cache), with AVX-512 and
 * with AVX2, as x·Wᵀ (rows×in×out) unless another product is named. */
#ifndef FASTNN_GEMM_TUNING_H
#define FASTNN_GEMM_TUNING_H
#include "simd.h"
#include "table.h"

/* Bytes of the terms of a sum that one block may have: K_BLOCK of them. C is read and written once
 * for each block. 1024: 3 % slower at 1024×1024×1024 on a Zen 4, where C does not fit into the
 * second-level cache; 3072: as fast. In double 4096: 5 to 12 % slower at 256×512×512 (dy·W) and
 * 2048×256×256 (dyᵀ·x). */
enum { K_BYTES = 2048 };

/* Bytes of scratch memory: a packed panel of B, as wide as a tile, which flows into the first-level
 * cache in order; a block of A, which stays in the second; and a transposed C. */
enum {
    PANEL_BYTES = K_BYTES / 4 * TILE_VECTORS * FASTNN_VECTOR_BYTES,
    A_BYTES = 512 << 10,
    C_BYTES = 512 << 10
};
_Static_assert(PANEL_BYTES + A_BYTES + C_BYTES <= FASTNN_SCRATCH / 2,
               "most of the scratch memory is left to `then`");

typedef struct {
    /* Rows of C that are finished before `then` sees them, in bytes, that they may still be in the
     * second-level cache; but never fewer rows than `least_rows`, for the panels of B are packed
     * anew for each block of rows. 64 kB: 5 to 6 % slower at 512×784×256 and 2048×128×128; 12 rows:
     * 30 % slower at 512×784×1024 and 1024×256×4096. */
    ptrdiff_t then_bytes, least_rows;
    /* A sum of so few terms is a matter of writing C. If its rows lie a multiple of `far_c` bytes
     * apart, where tiles evict each other, it is written along its rows. 16: 30 to 50 % slower at
     * 256×16×512 (dy·W). 4 would be 20 to 30 % faster where C fits into the second-level cache and
     * 12 % slower at 2048×5×1024 (dy·W). */
    ptrdiff_t short_sum, far_c;
    /* From a stride of `far_a` bytes on few rows of A share a cache or a page: they are copied, if
     * so many columns of C read them that it pays. 32 columns: 3 to 7 % slower at 128×1024×64 and
     * 128×1024×256 with AVX2. 24 rows: 4 % slower at 12×1024×1024 with AVX-512. */
    ptrdiff_t far_a, copied_a_rows, copied_a_columns;
    /* The same for B: a panel whose rows lie `far_b` bytes apart is copied if so many rows of C
     * read it. Never: 3 % slower at 256×512×512 (dy·W). 24 rows: 9 to 15 % slower at 24×512×512
     * and 32×784×256 (dy·W). */
    ptrdiff_t far_b, copied_b_rows;
    /* Matrices of more bytes hardly stay in the second-level cache beside others: each tile of C is
     * fetched ahead, and the next panel of B if so many rows give it time. Sums of `slow_terms` and
     * more have the lines fetched one after the other while a tile is computed, which pays for
     * smaller matrices too, of `slow_bytes`. On a Zen 4 (32 kB and 1 MB) all at once: 5 to 15 %
     * slower at 1024×1024×1024; one after the other at 32 and 64 terms: 3 to 25 % slower. */
    ptrdiff_t large_bytes, prefetched_b_rows, slow_terms, slow_bytes;
    /* Addresses `set_bytes` apart share a set of the first-level cache, which holds `set_lines`
     * lines and seldom more: more rows of B than that are copied before they are read side by
     * side. Without it, a few rows take 1.5 to 6 times as long (1×1024×1024, 4×1024×512). */
    ptrdiff_t set_bytes, set_lines;
    /* The time of transposing a vector, in multiply-adds of a vector. 8: 15 to 36 % slower at
     * 64×128×10. */
    ptrdiff_t transpose_cost;
    /* What a detour through Cᵀ costs beside its transpositions, in the same unit. 0: 15 % slower at
     * 8×16×4 with AVX-512; 160: 72 % slower at 16×32×4, and three times at 32×64×2 with AVX2. */
    ptrdiff_t detour_cost;
} gemm_tuning;

static const gemm_tuning tuning = {
    .then_bytes = 256 << 10,
    .least_rows = 96,
    .short_sum = 8,
    .far_c = 2048,
    .far_a = 2048,
    .copied_a_rows = 12,
    .copied_a_columns = 256,
    .far_b = 1024,
    .copied_b_rows = 48,
    .large_bytes = 1 << 20,
    .prefetched_b_rows = 48,
    .slow_terms = 96,
    .slow_bytes = 256 << 10,
    .set_bytes = 4096,
    .set_lines = 8,
#if FASTNN_VECTOR_BYTES == 64
    .transpose_cost = 4,
#else
    .transpose_cost = 2,
#endif
    .detour_cost = 40,
};

#endif
