/* Every kernel of one instruction set. Compiled once per variant with that variant's
 * flags and -DFASTNN_ISA=<name>; all but the table is static, so that no function built
 * for a newer processor can be linked into code that runs on an older one. */
#include "table.h"

#define FASTNN_DOUBLE 0
#include "simd.h"
#include "vecmath.h"
#include "gemm.inc"
#include "activation.inc"
#include "embedding.inc"
#include "loss.inc"
#include "layer_norm.inc"
#include "batch_norm.inc"
#include "dropout.inc"
#include "recurrent.inc"
#include "optim.inc"
#undef FASTNN_DOUBLE

#define FASTNN_DOUBLE 1
#include "simd.h"
#include "vecmath.h"
#include "gemm.inc"
#include "activation.inc"
#include "embedding.inc"
#include "loss.inc"
#include "layer_norm.inc"
#include "batch_norm.inc"
#include "dropout.inc"
#include "recurrent.inc"
#include "optim.inc"
#undef FASTNN_DOUBLE

/* Each .inc file lists its kernels in a macro KERNELS_<file>(K). */
#define ENTRY(name) {#name, name##_f32, name##_f64},
static const fastnn_entry entries[] = {
    KERNELS_GEMM(ENTRY) KERNELS_ACTIVATION(ENTRY) KERNELS_LOSS(ENTRY) KERNELS_LAYER_NORM(ENTRY)
        KERNELS_DROPOUT(ENTRY) KERNELS_RECURRENT(ENTRY) KERNELS_EMBEDDING(ENTRY)
            KERNELS_OPTIM(ENTRY) KERNELS_BATCH_NORM(ENTRY)};

#define STRING_(x) #x
#define STRING(x) STRING_(x)
const fastnn_table FASTNN_PASTE(fastnn_table_, FASTNN_ISA) = {
    STRING(FASTNN_ISA), FASTNN_VECTOR_BYTES, sizeof entries / sizeof *entries, entries};
