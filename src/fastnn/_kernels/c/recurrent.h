/* How much memory the weights of an LSTM take once they are packed: what Python allocates, and
 * lstm_pack fills (recurrent.inc). */
#ifndef FASTNN_RECURRENT_H
#define FASTNN_RECURRENT_H
#include "table.h"

/* Elements of W_hh in panels of whole vectors, for any instruction set, so that it may be chosen
 * after the memory. `item` is the size of an element. */
static inline ptrdiff_t fastnn_lstm_panel_elements(ptrdiff_t hidden, ptrdiff_t item) {
    const ptrdiff_t lanes = FASTNN_WIDEST_VECTOR / item;
    return (hidden + lanes - 1) / lanes * lanes * 4 * hidden;
}

#endif
