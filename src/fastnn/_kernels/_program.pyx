# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# cython: binding=True, embedsignature=False
"""Program: the computational graph as an array of kernel calls that runs without the GIL."""

import numpy as np

cimport numpy as cnp
from libc.math cimport NAN
from libc.stdint cimport int64_t, uint64_t, uintptr_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

from fastnn._kernels._core cimport (
    FASTNN_BY_ITEMS, FASTNN_BY_ROWS, FASTNN_SERIAL, execute, fastnn_args,
    fastnn_call, fastnn_op, fastnn_run, find_kernel, sum_losses, thread_limit)
from fastnn._kernels._optim cimport UpdateTable

from fastnn import builder as planning
from fastnn._kernels._core import Scratch

cnp.import_array()

# Floating-point operations below which one thread is faster than sharing the work.
cdef double THREAD_WORK = 6e6

cdef struct Patch:
    fastnn_args *args
    int index      # of the pointer, size or scalar
    ptrdiff_t value  # slot, storage, factor or scalar name


cdef class PythonCall:
    """A Python function as a kernel: gets an array for every pointer of the operation."""
    cdef object function, types
    cdef Program program

    def __init__(self, Program program, operation):
        self.program = program
        self.function = operation.python
        self.types = [(p.dtype, p.shape) for p in operation.pointers]

    cdef int run(self, const fastnn_args *args) except -1:
        cdef cnp.npy_intp rows = args.n[0]
        arrays = []
        for i, (dtype, shape) in enumerate(self.types):
            size = rows * dtype.itemsize
            for extent in shape:
                size *= extent
            memory = <cnp.npy_uint8[:size]><cnp.npy_uint8 *>args.p[i] if size else b""
            arrays.append(np.frombuffer(memory, dtype).reshape((rows, *shape)))
        self.function(*arrays)
        return 0


cdef void python_kernel(const fastnn_args *args, ptrdiff_t begin, ptrdiff_t end,
                        void *scratch) noexcept nogil:
    with gil:
        call = <PythonCall>args.p[9]
        try:
            call.run(args)
        except BaseException as error:  # the executor stops; run() raises it
            call.program.error = error
            call.program.failed = 1


cdef class Program:
    """The kernel calls of a model for one input shape, over buffers laid out once.

    Serves every batch up to its capacity; a larger batch makes it lay out its buffers anew.

    Parameters
    ----------
    schedule : fastnn.builder.Schedule
    """
    cdef readonly object schedule
    cdef readonly Py_ssize_t capacity
    cdef fastnn_call *calls
    cdef fastnn_op *epilogues
    cdef Py_ssize_t call_count, forward_count
    cdef Patch *patches
    # patches in the order of kind: slots, storages, sizes, scalars, accumulates
    cdef Py_ssize_t slot_end, storage_end, size_end, scalar_end, patch_end
    cdef dict slots, storages, scalars
    cdef list slot_values, keep
    cdef object memory, scratch
    cdef char **addresses
    cdef int scratch_threads
    cdef int failed
    cdef object error
    cdef double work_per_row
    cdef uint64_t **random_states
    cdef Py_ssize_t random_count

    def __init__(self, schedule):
        self.schedule = schedule
        self.keep = []
        self.slots, self.storages, self.scalars = {}, {}, {}
        self.slot_values = []
        self.capacity = -1
        self._compile(schedule)

    def __dealloc__(self):
        free(self.calls)
        free(self.epilogues)
        free(self.patches)
        free(self.addresses)
        free(self.random_states)

    def _compile(self, schedule):
        cdef Py_ssize_t i, j, epilogue = 0
        cdef const fastnn_op **link
        operations, calls = schedule.operations, schedule.calls
        self.calls = <fastnn_call *>calloc(len(calls) + 1, sizeof(fastnn_call))
        self.epilogues = <fastnn_op *>calloc(len(operations) + 1, sizeof(fastnn_op))
        if self.calls == NULL or self.epilogues == NULL:
            raise MemoryError("program")
        found = [[], [], [], [], []]  # (address of args, index, value) by kind
        splits = {planning.ROWS: FASTNN_BY_ROWS, planning.ITEMS: FASTNN_BY_ITEMS,
                  planning.SERIAL: FASTNN_SERIAL}
        for i in range(len(calls)):
            op = calls[i]
            self.calls[i].split = splits[op.split]
            self.calls[i].items = op.items
            self._fill(&self.calls[i].op, op, found)
            link = &self.calls[i].op.args.then
            while op.then is not None:
                op = op.then
                link[0] = &self.epilogues[epilogue]
                self._fill(&self.epilogues[epilogue], op, found)
                link = &self.epilogues[epilogue].args.then
                epilogue += 1
        self.call_count = len(calls)
        self.forward_count = sum(op.stage == planning.FORWARD for op in calls)
        for op in operations:
            self.work_per_row += op.flops
        ends = []
        j = 0
        self.patches = <Patch *>calloc(sum(map(len, found)) + 1, sizeof(Patch))
        for kind in found:
            for address, index, value in kind:
                self.patches[j].args = <fastnn_args *><uintptr_t>address
                self.patches[j].index = index
                self.patches[j].value = value
                j += 1
            ends.append(j)
        self.slot_end, self.storage_end, self.size_end, self.scalar_end, self.patch_end = ends
        self.addresses = <char **>calloc(len(self.storages) + 1, sizeof(char *))
        self.random_count = len(schedule.random_states)
        self.random_states = <uint64_t **>calloc(self.random_count + 1, sizeof(uint64_t *))
        if self.patches == NULL or self.addresses == NULL or self.random_states == NULL:
            raise MemoryError("program")
        for i in range(self.random_count):
            self.keep.append(schedule.random_states[i])
            self.random_states[i] = <uint64_t *>cnp.PyArray_DATA(
                <cnp.ndarray>schedule.random_states[i])

    cdef int _fill(self, fastnn_op *target, operation, list found) except -1:
        cdef fastnn_args *args = &target.args
        cdef uintptr_t address = <uintptr_t>args
        slots, storages, sizes, scalars, accumulates = found
        if operation.python is not None:
            call = PythonCall(self, operation)
            self.keep.append(call)
            target.kernel = python_kernel
            args.p[9] = <void *>call
        else:
            target.kernel = find_kernel(operation.kernel, self.schedule.dtype.itemsize == 8)
        for i, pointer in enumerate(operation.pointers):
            if pointer is None:
                continue
            if isinstance(pointer, np.ndarray):
                self.keep.append(pointer)
                args.p[i] = cnp.PyArray_DATA(<cnp.ndarray>pointer)
                continue
            root = pointer.root
            if root.slot is not None:
                if root.slot not in self.slots:
                    self.slots[root.slot] = len(self.slots)
                    self.slot_values.append(root)
                slots.append((address, i, self.slots[root.slot]))
            else:
                storages.append((address, i, self.storages.setdefault(
                    root.storage, len(self.storages))))
        for i, size in enumerate(operation.sizes):
            if isinstance(size, planning.RowCount):
                sizes.append((address, i, size.per_sample))
            else:
                args.n[i] = size
        for i, scalar in enumerate(operation.scalars):
            if isinstance(scalar, planning.Scalar):
                scalars.append((address, i, self.scalars.setdefault(
                    scalar.name, len(self.scalars))))
            else:
                args.s[i] = scalar
        args.accumulate = operation.accumulate
        if operation.parameters and not operation.accumulate:
            accumulates.append((address, 0, 0))
        return 0

    # Before a run ---------------------------------------------------------------------------

    cpdef reserve(self, Py_ssize_t rows):
        """Lay out the buffers for batches of up to `rows` rows."""
        cdef Py_ssize_t i, offset = 0, at
        cdef char *start
        if rows <= self.capacity:
            return
        offsets = []
        for storage in self.storages:
            offsets.append(offset)
            # an odd number of cache lines apart, so that buffers do not share cache sets
            offset += (max(rows, 1) * storage.row_bytes + 63) // 64 * 64 + 64
        memory = np.empty(offset + 64, np.uint8)
        start = <char *>((<uintptr_t>cnp.PyArray_DATA(<cnp.ndarray>memory) + 63) // 64 * 64)
        for i in range(len(offsets)):
            at = offsets[i]
            self.addresses[i] = start + at
        for i in range(self.slot_end, self.storage_end):
            self.patches[i].args.p[self.patches[i].index] = self.addresses[self.patches[i].value]
        self.memory = memory
        self.capacity = rows

    @property
    def nbytes(self):
        """Bytes of the buffers laid out so far."""
        return 0 if self.memory is None else self.memory.nbytes

    def has_slot(self, str name):
        """Return whether an operation reads or writes the array `name` of the caller."""
        return name in self.slots

    cpdef bind(self, str name, array):
        """Point the slot `name` at a checked array, or at nothing."""
        cdef void *address = NULL
        if array is not None:
            address = cnp.PyArray_DATA(<cnp.ndarray>array)
        self._bind(self.slots.get(name, -1), address)

    cdef void _bind(self, ptrdiff_t slot, void *address) noexcept nogil:
        cdef Py_ssize_t i
        for i in range(self.slot_end):
            if self.patches[i].value == slot:
                self.patches[i].args.p[self.patches[i].index] = address

    def read(self, value, cnp.ndarray out):
        """Copy a value of the last run into `out`, which has as many rows."""
        cdef char *source = self.addresses[<ptrdiff_t>self.storages[value.root.storage]]
        memcpy(cnp.PyArray_DATA(out), source, cnp.PyArray_NBYTES(out))

    cpdef set_scalar(self, str name, double value):
        """Set the scalar `name` for the runs to come."""
        self._set_scalar(self.scalars.get(name, -1), value)

    cdef void _set_scalar(self, ptrdiff_t scalar, double value) noexcept nogil:
        cdef Py_ssize_t i
        for i in range(self.size_end, self.scalar_end):
            if self.patches[i].value == scalar:
                self.patches[i].args.s[self.patches[i].index] = value

    cpdef set_accumulate(self, bint accumulate):
        """Make the parameter gradients of the runs to come add to what stands there."""
        cdef Py_ssize_t i
        for i in range(self.scalar_end, self.patch_end):
            self.patches[i].args.accumulate = accumulate

    cdef int _threads(self, Py_ssize_t rows) noexcept nogil:
        cdef int limit = thread_limit()
        cdef double work = self.work_per_row * rows
        if limit <= 1 or work < THREAD_WORK or rows < 2:
            return 1
        return limit

    # Runs -----------------------------------------------------------------------------------

    cdef int _prepare(self, fastnn_run *run, Py_ssize_t rows, int first, int last) except -1:
        """Fill in everything of a run that does not change from batch to batch."""
        cdef Py_ssize_t i
        if rows < self.schedule.minimum_rows:
            raise ValueError(f"x: expected at least {self.schedule.minimum_rows} rows for the "
                             f"statistics of the batch, got {rows}")
        self.reserve(rows)
        run.threads = self._threads(rows)
        if run.threads > self.scratch_threads:
            self.scratch = Scratch(run.threads)
            self.scratch_threads = run.threads
        run.scratch = <char *><uintptr_t>self.scratch.address
        run.calls = self.calls + first
        run.count = last - first
        run.rows = rows
        run.update = NULL
        run.failed = &self.failed
        self.failed = 0
        for i in range(self.storage_end, self.size_end):
            self.patches[i].args.n[self.patches[i].index] = rows * self.patches[i].value
        return 0

    cdef int _raise(self) except -1:
        error, self.error, self.failed = self.error, None, 0
        raise error

    cdef void _advance(self) noexcept nogil:
        cdef Py_ssize_t i
        for i in range(self.random_count):
            self.random_states[i][1] += 1

    def forward(self, Py_ssize_t rows):
        """Run the forward pass on the arrays that are bound."""
        cdef fastnn_run run
        self._prepare(&run, rows, 0, self.forward_count)
        self._advance()
        with nogil:
            execute(&run)
        if self.failed:
            self._raise()

    def backward(self, Py_ssize_t rows):
        """Run the backward pass and the parameter gradients."""
        cdef fastnn_run run
        self._prepare(&run, rows, self.forward_count, self.call_count)
        with nogil:
            execute(&run)
        if self.failed:
            self._raise()


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
    if not cnp.PyArray_Check(array) or cnp.PyArray_TYPE(array) != form.typenum:
        return False
    if cnp.PyArray_NDIM(array) != form.ndim + 1 or cnp.PyArray_DIM(array, 0) != rows:
        return False
    for i in range(form.ndim):
        if cnp.PyArray_DIM(array, i + 1) != form.shape[i]:
            return False
    return cnp.PyArray_ISCARRAY_RO(array)


cdef class LossProgram(Program):
    """A program that ends in a loss: forward, loss, backward and an optimizer step in one call.

    Parameters
    ----------
    schedule : fastnn.builder.Schedule
        With the slots "x", "target" and "weight" and the scalar "scale".
    row_loss : fastnn.builder.Value
        The losses of a sample: several where its prediction has several rows.
    elements : int
        By how many elements of a row the loss is averaged.
    classes : int
        The number of classes if the target is labels, else 0.
    class_weight : ndarray or None
        Only for labels.
    ignore_index : int or None
    reduction : {"mean", "sum"}
    squares : ndarray of float64, shape (2,), or None
        Where the schedule sums the squares of the parameters, for the penalty.
    l2 : float
        λ of the penalty λ/2 Σ‖W‖² that the loss includes.

    Attributes
    ----------
    total : float
        What the sum of the losses of the last step was divided by.
    steps_done : int
        How many steps the last `steps` has taken.
    """
    cdef ptrdiff_t row_loss, x_slot, target_slot, weight_slot, scale
    cdef Form x, target, weight
    cdef Py_ssize_t elements, classes, rows_per_sample
    cdef bint ignores, mean, is_double
    cdef int64_t ignore_index
    cdef object class_weight, squares
    cdef double *square_sums
    cdef double l2
    cdef readonly double total
    cdef readonly Py_ssize_t steps_done
    cdef object batch
    cdef Py_ssize_t batch_rows
    cdef readonly Py_ssize_t steps_taken  # of the last call of steps(), also of one that raised

    def __init__(self, schedule, row_loss, Py_ssize_t elements, Py_ssize_t classes=0,
                 class_weight=None, ignore_index=None, reduction="mean", squares=None, l2=0.0):
        super().__init__(schedule)
        self.row_loss, self.rows_per_sample = self.storages[row_loss.storage], row_loss.size
        self.elements, self.classes, self.class_weight = elements, classes, class_weight
        self.ignores = ignore_index is not None
        self.ignore_index = ignore_index if self.ignores else 0
        self.mean = reduction == "mean"
        self.squares, self.l2 = squares, l2
        self.square_sums = NULL
        if squares is not None:
            self.square_sums = <double *>cnp.PyArray_DATA(<cnp.ndarray>squares)
        self.is_double = schedule.dtype.itemsize == 8
        self.scale = self.scalars["scale"]
        self.x_slot, self.target_slot = self.slots["x"], self.slots["target"]
        self.weight_slot = self.slots["weight"]
        self.x, self.target = (form_of(self.slot_values[self.x_slot]),
                               form_of(self.slot_values[self.target_slot]))
        self.weight = form_of(self.slot_values[self.weight_slot])

    def accepts(self, x, target, weight):
        """Return whether `step` can use these as they are: form, at least one row, labels."""
        cdef cnp.npy_intp rows
        if not cnp.PyArray_Check(x) or cnp.PyArray_NDIM(x) == 0:
            return False
        rows = cnp.PyArray_DIM(x, 0)
        return (rows > 0 and has_form(x, &self.x, rows) and has_form(target, &self.target, rows)
                and (weight is None or has_form(weight, &self.weight, rows))
                and self._in_range(cnp.PyArray_DATA(<cnp.ndarray>target), rows))

    cdef bint _in_range(self, const void *target, ptrdiff_t samples) noexcept nogil:
        """Whether all labels are classes, or to be ignored."""
        cdef const int64_t *labels = <const int64_t *>target
        cdef ptrdiff_t i
        if self.classes > 0:
            for i in range(samples * self.rows_per_sample):
                if not 0 <= labels[i] < self.classes:
                    if not (self.ignores and labels[i] == self.ignore_index):
                        return False
        return True

    cdef double _total(self, const void *weight, const void *target, ptrdiff_t rows) noexcept nogil:
        """The total weight of the batch, by which the mean reduction divides."""
        cdef const int64_t *labels = <const int64_t *>target if self.classes else NULL
        cdef const void *classes = NULL
        cdef double total = rows
        if not self.mean:
            return 1.0
        if labels != NULL and self.class_weight is not None:
            classes = cnp.PyArray_DATA(<cnp.ndarray>self.class_weight)
        if weight != NULL or classes != NULL or self.ignores:
            if self.is_double:
                total = _total_weight[double](<const double *>weight, labels,
                                              <const double *>classes, self.ignore_index,
                                              self.ignores, rows)
            else:
                total = _total_weight[float](<const float *>weight, labels,
                                             <const float *>classes, self.ignore_index,
                                             self.ignores, rows)
        return total * self.elements

    cdef double _step(self, fastnn_run *run, void *x, void *target, void *weight) noexcept nogil:
        cdef ptrdiff_t rows = run.rows * self.rows_per_sample
        cdef double loss
        self.total = self._total(weight, target, rows)
        self._bind(self.x_slot, x)
        self._bind(self.target_slot, target)
        self._bind(self.weight_slot, weight)
        # a mean over nothing has no value and no gradient
        self._set_scalar(self.scale, 1 / self.total if self.total != 0 else 0)
        self._advance()
        if self.square_sums != NULL:
            self.square_sums[0] = 0
        execute(run)
        loss = sum_losses(self.addresses[self.row_loss], rows, self.is_double)
        loss = loss / self.total if self.total != 0 else NAN
        if self.square_sums != NULL:
            loss += 0.5 * self.l2 * self.square_sums[0]
        return loss

    def step(self, cnp.ndarray x, cnp.ndarray target, weight=None, UpdateTable update=None):
        """Forward, loss, backward and update of one batch; returns the loss.

        Arrays are checked by the caller; all are used in place.
        """
        cdef fastnn_run run
        cdef double loss
        cdef void *w = NULL if weight is None else cnp.PyArray_DATA(<cnp.ndarray>weight)
        self._prepare(&run, cnp.PyArray_DIM(x, 0), 0, self.call_count)
        if update is not None:
            run.update = &update.u
        with nogil:
            loss = self._step(&run, cnp.PyArray_DATA(x), cnp.PyArray_DATA(target), w)
        if self.failed:
            self._raise()
        if update is not None and update.u.failed:
            update.raise_not_finite()
        return loss

    def steps(self, cnp.ndarray x, cnp.ndarray target, weight, cnp.ndarray index,
              Py_ssize_t batch_size, UpdateTable update):
        """Train on the rows `index` of `x`, batch after batch, without the GIL.

        The last batch may be smaller. If one fails, `steps_done` of them have been taken.

        Returns
        -------
        losses, totals : ndarray
            For each batch its loss and what its sum of losses was divided by, float64.
        """
        cdef fastnn_run run
        cdef Py_ssize_t samples = index.shape[0]
        cdef Py_ssize_t count = (samples + batch_size - 1) // batch_size
        cdef Py_ssize_t end, rows, i = 0
        cdef bint labels_fit = True
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
        self.steps_done = 0
        if weight is not None:
            weights = cnp.PyArray_BYTES(<cnp.ndarray>weight)
        if self.batch is None or self.batch_rows < batch_size:
            self.batch = np.empty(
                batch_size * (self.x.bytes + self.target.bytes + self.weight.bytes) + 256, np.uint8)
            self.batch_rows = batch_size
        x_batch = <char *>((<uintptr_t>cnp.PyArray_DATA(<cnp.ndarray>self.batch) + 63) // 64 * 64)
        target_batch = x_batch + (batch_size * self.x.bytes + 63) // 64 * 64
        weight_batch = target_batch + (batch_size * self.target.bytes + 63) // 64 * 64
        while i < count:  # the full batches, then the smaller one
            rows = min(batch_size, samples - i * batch_size)
            end = i + (samples - i * batch_size) // rows
            self._prepare(&run, rows, 0, self.call_count)
            run.update = &update.u
            with nogil:
                while i < end:
                    update.u.step = i
                    gather(x_batch, xs, chosen, rows, self.x.bytes)
                    gather(target_batch, targets, chosen, rows, self.target.bytes)
                    if weights != NULL:
                        gather(weight_batch, weights, chosen, rows, self.weight.bytes)
                    chosen += rows
                    labels_fit = self._in_range(target_batch, rows)
                    if not labels_fit:
                        break
                    loss[i] = self._step(&run, x_batch, target_batch,
                                         weight_batch if weights != NULL else NULL)
                    total[i] = self.total
                    if self.failed or update.u.failed:
                        break
                    i += 1
            self.steps_done = i
            if not labels_fit:
                raise ValueError(f"labels: expected integers in [0, {self.classes}), "
                                 "got others, written during the training")
            if self.failed:
                self._raise()
            if update.u.failed:
                update.raise_not_finite()
        return losses, totals


cdef void gather(char *to, const char *source, const int64_t *chosen, ptrdiff_t rows,
                 ptrdiff_t size) noexcept nogil:
    """Copy the chosen rows of `size` bytes one behind the other."""
    cdef ptrdiff_t i
    for i in range(rows):
        memcpy(to + i * size, source + chosen[i] * size, size)
