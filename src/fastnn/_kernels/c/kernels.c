/* Every kernel of one instruction set. Compiled once per variant with that variant's
 * flags and -DFASTNN_ISA=<name>; all but the table is static, so that no function built
 * for a newer processor can be linked into code that runs on an older one. */
#include "table.h"

#define FASTNN_DOUBLE 0
#include "families.inc"
#undef FASTNN_DOUBLE

#define FASTNN_DOUBLE 1
#include "families.inc"
#undef FASTNN_DOUBLE

#define KERNEL(name, outputs, pointers, sizes, scalars, flags, cost)                               \
    static double name##_cost(const ptrdiff_t *n) {                                                \
        (void)n;                                                                                   \
        return (double)(cost);                                                                     \
    }                                                                                              \
    _Static_assert((pointers) <= FASTNN_POINTERS && (sizes) <= FASTNN_SIZES &&                     \
                       (scalars) <= FASTNN_SCALARS && (outputs) <= (pointers),                     \
                   #name ": more arguments than fastnn_args has room for");
#include "families.inc"
#undef KERNEL

#define KERNEL(name, outputs, pointers, sizes, scalars, flags, cost)                               \
    {#name, name##_f32, name##_f64, outputs, pointers, sizes, scalars, flags, name##_cost},
static const fastnn_entry entries[] = {
#include "families.inc"
};

#define STRING_(x) #x
#define STRING(x) STRING_(x)
const fastnn_table FASTNN_PASTE(fastnn_table_, FASTNN_ISA) = {
    STRING(FASTNN_ISA), FASTNN_VECTOR_BYTES, sizeof entries / sizeof *entries, entries};
