# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# cython: binding=True, embedsignature=False
"""TrainingProgram: a whole training step, and many of them, as one call without the GIL."""

import numpy as np

cimport numpy as cnp
from libc.float cimport DBL_MIN, FLT_MIN
from libc.math cimport NAN, fabs
from libc.stdint cimport int64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

from fastnn._kernels.core cimport (
    Scratch, execute, fastnn_pace, fastnn_run, give_back, sum_losses, take_scratch)
from fastnn._kernels.door cimport labels_in_range
from fastnn._kernels.program cimport Memory, Program, Version
from fastnn._kernels.update cimport UpdateTable

cnp.import_array()


ctypedef fused Real:
    float
    double


cdef double _total_weight(const Real *weight, const int64_t *labels, const Real *class_weight,
                          int64_t ignore, bint ignores, ptrdiff_t rows) noexcept nogil:
    cdef double total = 0, w
    cdef ptrdiff_t i
    for i in range(rows):
        w = weight[i] if weight != NULL else 1.0
        if labels != NULL:
            if ignores and labels[i] == ignore:
                continue
            if class_weight != NULL:
                w *= class_weight[labels[i]]
        total += w
    return total


cdef bint _any_negative(const Real *weight, ptrdiff_t count) noexcept nogil:
    cdef ptrdiff_t i
    for i in range(count):
        if weight[i] < 0:
            return True
    return False


cdef struct Form:  # of an array that belongs to the caller
    int typenum
    int ndim
    cnp.npy_intp shape[64]  # of one sample
    ptrdiff_t bytes         # of one sample


cdef Form form_of(value):
    cdef Form form
    form.typenum, form.ndim, form.bytes = value.dtype.num, len(value.shape), value.row_bytes
    for i, extent in enumerate(value.shape):
        form.shape[i] = extent
    return form


cdef bint has_form(object array, const Form *form, cnp.npy_intp rows):
    """Whether kernels can read `array` as it is: that many samples of that form."""
    cdef int i
    if not cnp.PyArray_CheckExact(array) or cnp.PyArray_TYPE(array) != form.typenum:
        return False
    if cnp.PyArray_NDIM(array) != form.ndim + 1 or cnp.PyArray_DIM(array, 0) != rows:
        return False
    for i in range(form.ndim):
        if cnp.PyArray_DIM(array, i + 1) != form.shape[i]:
            return False
    return cnp.PyArray_ISCARRAY_RO(array)


cdef class TrainingProgram(Program):
    """A program that ends in a loss: forward, loss, backward and an optimizer step in one call.

    Parameters
    ----------
    schedule, memory, version
        As of `Program`, with the slots "x", "target" and "weight" and the scalar "scale".
    row_loss : fastnn._planning.builder.Value
        The losses of a sample: several where its prediction has several rows.
    elements : int
        How many elements of the mean a weight stands for.
    classes : int
        The number of classes if the target is labels, else 0.
    class_weight : ndarray or None
        Only for labels.
    ignore_index : int or None
    reduction : {"mean", "sum", "batch"}
    squares : ndarray of float64, shape (2,), or None
        Where the schedule sums the squares of the parameters, for the penalty.
    factor : ndarray of the schedule's dtype, shape (1,), or None
        Where the schedule reads λ.
    l2 : float
        λ of the penalty λ/2 Σ‖W‖² that the loss includes.
    by_element : bool
        Whether weights are of elements; else they are of samples, or of their rows.

    Attributes
    ----------
    total : float
        What the sum of the losses of the last step was divided by.
    """
    cdef ptrdiff_t row_loss, target_slot, weight_slot, scale
    cdef Form x, target, weight
    cdef Py_ssize_t elements, classes, rows_per_sample, weights_per_sample
    cdef bint ignores, mean, summed, is_double
    cdef readonly bint by_element
    cdef double least
    cdef int64_t ignore_index, index_limit
    cdef readonly object class_weight  # as the kernel reads it
    cdef object squares, factor
    cdef double *square_sums
    cdef double l2
    cdef readonly double total
    cdef Py_ssize_t batch  # where the rows of a batch are gathered, from the start of the block
    cdef fastnn_pace *part_paces  # of runs of a part, by its first call

    def __init__(self, schedule, Memory memory, Version version, row_loss, Py_ssize_t elements,
                 Py_ssize_t classes=0, class_weight=None, ignore_index=None, reduction="mean",
                 squares=None, factor=None, l2=0.0, bint by_element=False):
        super().__init__(schedule, memory, version)
        self.row_loss, self.rows_per_sample = self.storages[row_loss.storage], row_loss.size
        self.elements, self.classes, self.class_weight = elements, classes, class_weight
        self.ignores = ignore_index is not None
        self.ignore_index = ignore_index if self.ignores else 0
        self.mean, self.summed = reduction == "mean", reduction == "sum"
        self.squares, self.factor = squares, factor
        self.square_sums = NULL
        if squares is not None:
            self.square_sums = <double *>cnp.PyArray_DATA(<cnp.ndarray>squares)
            self.set_l2(l2)
        self.index_limit = schedule.index_limit or 0
        self.is_double = schedule.dtype.itemsize == 8
        self.scale = self.scalars["scale"]
        self.target_slot, self.weight_slot = self.slots["target"], self.slots["weight"]
        self.x, self.target = (form_of(self.slot_values[self.x_slot]),
                               form_of(self.slot_values[self.target_slot]))
        weight = self.slot_values[self.weight_slot]
        self.weight, self.weights_per_sample = form_of(weight), weight.size
        self.by_element = by_element
        self.least = DBL_MIN if self.is_double else FLT_MIN
        self.part_paces = <fastnn_pace *>calloc(self.call_count + 1, sizeof(fastnn_pace))
        if self.part_paces == NULL:
            raise MemoryError("program")

    def __dealloc__(self):
        free(self.part_paces)

    def set_l2(self, double l2):
        """Set λ of a penalty that has been planned, for the steps to come."""
        self.factor[0] = self.l2 = l2

    def accepts(self, x, target, weight, bint by_element=False):
        """Return whether `step` can use these as they are: form, at least one row, labels.

        And whether the model is still as it was planned.
        """
        cdef cnp.npy_intp rows
        if (self.version.value != self.planned or by_element != self.by_element
                or not cnp.PyArray_CheckExact(x) or cnp.PyArray_NDIM(x) == 0):
            return False
        rows = cnp.PyArray_DIM(x, 0)
        return (rows > 0 and has_form(x, &self.x, rows) and has_form(target, &self.target, rows)
                and (weight is None
                     or ((by_element or self.weights_per_sample == 1)
                         and has_form(weight, &self.weight, rows)
                         and self._weights_fit(cnp.PyArray_DATA(<cnp.ndarray>weight), rows)))
                and self._in_range(cnp.PyArray_DATA(<cnp.ndarray>target), rows)
                and self._indices_fit(cnp.PyArray_DATA(<cnp.ndarray>x), rows))

    cdef bint _in_range(self, const void *target, ptrdiff_t samples) noexcept nogil:
        """Whether all labels are classes, or to be ignored."""
        return self.classes == 0 or labels_in_range(
            <const int64_t *>target, samples * self.rows_per_sample, self.classes, self.ignores,
            self.ignore_index)

    cdef bint _weights_fit(self, const void *weight, ptrdiff_t samples) noexcept nogil:
        """Whether no weight is negative, where the loss is divided by their sum."""
        cdef ptrdiff_t count = samples * self.weights_per_sample
        if not self.mean or weight == NULL:
            return True
        if self.is_double:
            return not _any_negative[double](<const double *>weight, count)
        return not _any_negative[float](<const float *>weight, count)

    cdef Py_ssize_t _reserve_more(self, Py_ssize_t offset, Py_ssize_t rows) except -1:
        self.batch = offset
        return rows * (self.x.bytes + self.target.bytes + self.weight.bytes) + 192

    cdef double _total(self, const void *weight, const void *target,
                       ptrdiff_t samples) noexcept nogil:
        """What the sum of the losses of a batch is divided by; 0 if that has no inverse."""
        cdef const int64_t *labels = <const int64_t *>target if self.classes else NULL
        cdef const void *classes = NULL
        cdef ptrdiff_t count = samples * self.weights_per_sample
        cdef double total = count
        if self.summed:
            return 1.0
        if not self.mean:
            return samples
        if labels != NULL and self.class_weight is not None:
            classes = cnp.PyArray_DATA(<cnp.ndarray>self.class_weight)
        if weight != NULL or classes != NULL or self.ignores:
            if self.is_double:
                total = _total_weight[double](<const double *>weight, labels,
                                              <const double *>classes, self.ignore_index,
                                              self.ignores, count)
            else:
                total = _total_weight[float](<const float *>weight, labels,
                                             <const float *>classes, self.ignore_index,
                                             self.ignores, count)
            if fabs(total) < self.least:
                return 0
        return total * self.elements

    cdef bint _indices_fit(self, const void *x, ptrdiff_t samples) noexcept nogil:
        """Whether all indices of an integer input name a row of each table."""
        return self.index_limit == 0 or labels_in_range(
            <const int64_t *>x, samples * (self.x.bytes // 8), self.index_limit, False, 0)

    cdef double _step(self, fastnn_run *run, void *x, void *target, void *weight) noexcept nogil:
        cdef ptrdiff_t rows = run.rows * self.rows_per_sample
        cdef double loss
        self.total = self._total(weight, target, run.rows)
        self._bind(self.x_slot, x, run.rows)
        self._bind(self.target_slot, target, run.rows)
        self._bind(self.weight_slot, weight, run.rows)
        # a mean over nothing has no value and no gradient
        self._set_scalar(self.scale, 1 / self.total if self.total != 0 else 0)
        self._advance()
        if self.square_sums != NULL:
            self.square_sums[0] = 0
        self.threads = execute(run)
        loss = sum_losses(self.addresses[self.row_loss], rows, self.is_double)
        loss = loss / self.total if self.total != 0 else NAN
        if self.square_sums != NULL:
            loss += 0.5 * self.l2 * self.square_sums[0]
        return loss

    def step(self, cnp.ndarray x, cnp.ndarray target, weight=None, UpdateTable update=None,
             dict carried=None):
        """Forward, loss, backward and update of one batch; returns the loss.

        Arrays are checked by the caller; all are used in place. `carried` are those of states that
        go on from batch to batch, by slot.
        """
        cdef fastnn_run run
        cdef Scratch scratch
        cdef double loss
        cdef void *w = NULL if weight is None else cnp.PyArray_DATA(<cnp.ndarray>weight)
        self._prepare(&run, cnp.PyArray_DIM(x, 0), 0, self.call_count)
        if self.others:
            self._bind_others(carried, run.rows)
        scratch = take_scratch(&run)
        if update is not None:
            update.taken = 0
            run.update = &update.u
        if self.has_python:
            self.bound["x"] = x
        with nogil:
            loss = self._step(&run, cnp.PyArray_DATA(x), cnp.PyArray_DATA(target), w)
        give_back(scratch)
        if self.has_python:
            self.bound.clear()
        if self.failure.failed:
            self._raise()
        if update is not None:
            if update.u.failed:
                update.raise_not_finite()
            update.taken = 1
        return loss

    # In parts ---------------------------------------------------------------------------------

    def begin(self, cnp.ndarray x, cnp.ndarray target, weight=None, dict carried=None):
        """Take a batch to be run in parts; returns what its sum of losses is divided by alone.

        Arrays are as of `step`, and are kept by the caller until the last part.
        """
        cdef fastnn_run run
        cdef void *w = NULL if weight is None else cnp.PyArray_DATA(<cnp.ndarray>weight)
        cdef Py_ssize_t rows = cnp.PyArray_DIM(x, 0)
        self._prepare(&run, rows, 0, self.call_count)
        if self.others:
            self._bind_others(carried, rows)
        self._bind(self.x_slot, cnp.PyArray_DATA(x), rows)
        self._bind(self.target_slot, cnp.PyArray_DATA(target), rows)
        self._bind(self.weight_slot, w, rows)
        return self._total(w, cnp.PyArray_DATA(target), rows)

    def divide_by(self, double total):
        """Set what the sum of the losses is divided by."""
        self.total = total
        self._set_scalar(self.scale, 1 / total if total != 0 else 0)

    def part(self, cnp.ndarray x, Py_ssize_t first, Py_ssize_t last):
        """Run the calls from `first` to before `last` on the batch that was taken."""
        if self.has_python:
            self.bound["x"] = x
        self._run(cnp.PyArray_DIM(x, 0), first, last, &self.part_paces[first])

    def loss_sum(self, Py_ssize_t rows):
        """Return the sum of the losses of the batch, without penalty."""
        return sum_losses(self.addresses[self.row_loss], rows * self.rows_per_sample,
                          self.is_double)

    def steps(self, cnp.ndarray x, cnp.ndarray target, weight, cnp.ndarray index,
              Py_ssize_t batch_size, UpdateTable update, dict carried=None):
        """Train on the rows `index` of `x`, batch after batch, without the GIL.

        The last batch may be smaller. If one fails, `update.taken` of them have been taken.

        Returns
        -------
        losses, totals : ndarray
            For each batch its loss and what its sum of losses was divided by, float64.
        """
        cdef fastnn_run run
        cdef Scratch scratch
        cdef Py_ssize_t samples = index.shape[0]
        cdef Py_ssize_t count = (samples + batch_size - 1) // batch_size
        cdef Py_ssize_t end, rows, i = 0
        cdef bint labels_fit = True, indices_fit = True, weights_fit = True
        cdef cnp.ndarray losses = np.empty(count)
        cdef cnp.ndarray totals = np.empty(count)
        cdef double *loss = <double *>cnp.PyArray_DATA(losses)
        cdef double *total = <double *>cnp.PyArray_DATA(totals)
        cdef const int64_t *chosen = <const int64_t *>cnp.PyArray_DATA(index)
        cdef const char *xs = cnp.PyArray_BYTES(x)
        cdef const char *targets = cnp.PyArray_BYTES(target)
        cdef const char *weights = NULL
        cdef char *x_batch
        cdef char *target_batch
        cdef char *weight_batch
        update.taken = 0
        if weight is not None:
            weights = cnp.PyArray_BYTES(<cnp.ndarray>weight)
        while i < count:  # the full batches, then the smaller one
            rows = min(batch_size, samples - i * batch_size)
            end = i + (samples - i * batch_size) // rows
            self._prepare(&run, rows, 0, self.call_count)
            scratch = take_scratch(&run)
            if self.others:
                self._bind_others(carried, rows)
            run.update = &update.u
            x_batch = self.memory.start + self.batch
            target_batch = x_batch + (rows * self.x.bytes + 63) // 64 * 64
            weight_batch = target_batch + (rows * self.target.bytes + 63) // 64 * 64
            if self.has_python:
                self.bound["x"] = self.memory.data
            with nogil:
                while i < end:
                    update.u.step = i
                    gather(x_batch, xs, chosen, rows, self.x.bytes)
                    gather(target_batch, targets, chosen, rows, self.target.bytes)
                    if weights != NULL:
                        gather(weight_batch, weights, chosen, rows, self.weight.bytes)
                    chosen += rows
                    labels_fit = self._in_range(target_batch, rows)
                    indices_fit = self._indices_fit(x_batch, rows)
                    weights_fit = weights == NULL or self._weights_fit(weight_batch, rows)
                    if not (labels_fit and indices_fit and weights_fit):
                        break
                    loss[i] = self._step(&run, x_batch, target_batch,
                                         weight_batch if weights != NULL else NULL)
                    total[i] = self.total
                    if self.failure.failed or update.u.failed:
                        break
                    i += 1
            give_back(scratch)
            if self.has_python:
                self.bound.clear()
            update.taken = i
            if not labels_fit:
                raise ValueError(f"labels: expected integers in [0, {self.classes}), "
                                 "got others, written during the training")
            if not indices_fit:
                raise ValueError(f"x: expected indices in [0, {self.index_limit}), "
                                 "got others, written during the training")
            if not weights_fit:
                raise ValueError("sample_weight: expected numbers >= 0, "
                                 "got others, written during the training")
            if self.failure.failed:
                self._raise()
            if update.u.failed:
                update.raise_not_finite()
        return losses, totals


cdef extern from *:
    """
    static void prefetch(const char *data, ptrdiff_t size) {
        for (ptrdiff_t i = 0; i < size && i < 1024; i += 64) __builtin_prefetch(data + i);
    }
    """
    void prefetch(const char *data, ptrdiff_t size) noexcept nogil


cdef void gather(char *to, const char *source, const int64_t *chosen, ptrdiff_t rows,
                 ptrdiff_t size) noexcept nogil:
    """Copy the chosen rows of `size` bytes one behind the other."""
    cdef ptrdiff_t i
    for i in range(rows):
        if i + 8 < rows:  # rows lie anywhere: the processor cannot guess the next ones
            prefetch(source + chosen[i + 8] * size, size)
        memcpy(to + i * size, source + chosen[i] * size, size)
