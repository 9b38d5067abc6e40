# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# cython: binding=True, embedsignature=False
"""Program: the computational graph as an array of kernel calls that runs without the GIL."""

import numpy as np

cimport numpy as cnp
from libc.stdint cimport uint64_t, uintptr_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

from fastnn._kernels.core cimport (
    FASTNN_BY_ITEMS, FASTNN_BY_ROWS, FASTNN_POINTERS, FASTNN_SERIAL, FASTNN_SIZES, Scratch,
    check_counts, execute, fastnn_args, fastnn_call, fastnn_entry, fastnn_op, fastnn_run,
    find_entry, give_back, kernel_of, take_scratch, threads_for)

cnp.import_array()

# How the items of a call are shared among threads: by rows of the batch, by a number of items that
# does not depend on the batch, or not at all.
ROWS, ITEMS, SERIAL = "rows", "items", "serial"

# Slots that runs bind by themselves.
cdef tuple USUAL = ("x", "y", "dx", "dy", "target", "weight")


class RowCount:
    """Stands for `per_sample` times the rows of the batch among the sizes of an operation."""

    def __init__(self, per_sample=1):
        self.per_sample = per_sample


class Scalar:
    """Stands for a scalar that is set anew at every run, such as 1 / batch."""

    def __init__(self, name):
        self.name = name


cdef class Version:
    """A number that grows whenever something that plans have captured changes."""

    def __init__(self):
        self.value = 0


cdef class SeveralLocks:
    """Locks that are taken together, always in the same order, or not at all.

    In C, where no handler of a signal is called between one lock and the next.
    """
    cdef list locks

    def __init__(self, locks):
        self.locks = sorted(locks, key=id)

    def __enter__(self):
        taken = []
        try:
            for lock in self.locks:
                lock.acquire()
                taken.append(lock)
        except BaseException:
            self._release(taken)
            raise

    def __exit__(self, *exception):
        self._release(self.locks)

    cdef int _release(self, list taken) except -1:
        for lock in reversed(taken):
            lock.release()
        return 0


cdef class Memory:
    """A block of memory that programs of a model use one after the other."""

    def __init__(self):
        self.size = self.moved = 0

    cdef int grow(self, Py_ssize_t size) except -1:
        """Make room for `size` bytes; what is there is lost, and the block may move."""
        if size > self.size:
            # a little more than asked for, so that ever longer inputs seldom move it
            size = max(size, self.size + self.size // 4)
            self.data, self.size = None, 0  # the old block goes before the new one comes
            self.data = np.empty(size + 64, np.uint8)
            self.start = <char *>(
                (<uintptr_t>cnp.PyArray_DATA(<cnp.ndarray>self.data) + 63) // 64 * 64)
            self.size = size
            self.moved += 1
        return 0


cdef class Failure:
    """Where a Python function that raised leaves its error."""


cdef class PythonCall:
    """A Python function as a kernel: gets an array for every pointer of the operation."""
    cdef object function, types
    cdef list owners  # of the pointers' memory: a Memory, or the name of a slot
    cdef dict bound   # the caller's arrays by slot
    cdef Failure failure

    def __init__(self, operation, Memory memory, dict bound, Failure failure):
        self.function, self.bound, self.failure = operation.python, bound, failure
        self.types = [(p.dtype, p.shape) for p in operation.pointers]
        if len(self.types) > FASTNN_POINTERS:
            raise ValueError(f"{operation.kernel}: expected at most {FASTNN_POINTERS} pointers, "
                             f"got {len(self.types)}")
        self.owners = [memory if p.root.slot is None else p.root.slot for p in operation.pointers]

    cdef int run(self, const fastnn_args *args) except -1:
        cdef cnp.npy_intp shape[64]
        cdef cnp.ndarray array
        cdef Py_ssize_t i, axis
        arrays = []
        for i, (dtype, extents) in enumerate(self.types):
            shape[0] = args.n[0]
            for axis, extent in enumerate(extents):
                shape[1 + axis] = extent
            array = cnp.PyArray_SimpleNewFromData(
                1 + len(extents), shape, dtype.num, args.p[i])
            # what the function keeps must stay readable when the block has gone
            owner = self.owners[i]
            cnp.set_array_base(
                array, (<Memory>owner).data if type(owner) is Memory else self.bound.get(owner))
            arrays.append(array)
        self.function(*arrays)
        return 0


cdef void python_kernel(const fastnn_args *args, ptrdiff_t begin, ptrdiff_t end,
                        void *scratch) noexcept nogil:
    with gil:
        call = <PythonCall>args.python
        try:
            call.run(args)
        except BaseException as error:  # the executor stops; run() raises it
            call.failure.error = error
            call.failure.failed = 1


cdef class Program:
    """The kernel calls of a model for one input shape, over memory that programs share.

    Serves every batch up to its capacity; a larger batch makes it lay out its buffers anew.

    Parameters
    ----------
    schedule : fastnn._planning.schedule.Schedule
    memory : Memory
        Where the buffers lie; what a run leaves there lasts until the next run of any program.
    version : Version
        Of the model that was planned.
    """

    def __init__(self, schedule, Memory memory, Version version):
        self.schedule, self.memory = schedule, memory
        self.version, self.planned = version, version.value
        self.failure, self.minimum_rows = Failure(), schedule.minimum_rows
        self.marked = -1
        self.keep, self.bound = [], {}
        self.slots, self.storages, self.scalars = {}, {}, {}
        self.slot_values = []
        self.capacity = -1
        self.meetings = 1
        self._compile(schedule)
        self.x_slot, self.y_slot, self.dx_slot, self.dy_slot, *_ = [
            self.slots.get(name, -1) for name in USUAL]
        self.others = [(name, slot) for name, slot in self.slots.items() if name not in USUAL]

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
        splits = {ROWS: FASTNN_BY_ROWS, ITEMS: FASTNN_BY_ITEMS,
                  SERIAL: FASTNN_SERIAL}
        for i in range(len(calls)):
            op = calls[i]
            self.calls[i].split = splits[op.split]
            self.calls[i].items = op.items
            self.calls[i].waits = i > 0 and op.waits_after(calls[i - 1])
            self.meetings += self.calls[i].waits
            self._fill(&self.calls[i].op, op, found)
            link = &self.calls[i].op.args.then
            while op.then is not None:
                op = op.then
                link[0] = &self.epilogues[epilogue]
                self._fill(&self.epilogues[epilogue], op, found)
                link = &self.epilogues[epilogue].args.then
                epilogue += 1
        self.call_count = len(calls)
        self.forward_count = schedule.forward_count
        ends = []
        j = 0
        self.patches = <Patch *>calloc(sum(map(len, found)) + 1, sizeof(Patch))
        self.addresses = <char **>calloc(len(self.storages) + 1, sizeof(char *))
        self.random_count = len(schedule.random_states)
        self.random_states = <uint64_t **>calloc(self.random_count + 1, sizeof(uint64_t *))
        if self.patches == NULL or self.addresses == NULL or self.random_states == NULL:
            raise MemoryError("program")
        for kind in found:
            for address, index, value, *offset in kind:
                self.patches[j].args = <fastnn_args *><uintptr_t>address
                self.patches[j].index = index
                self.patches[j].value = value
                self.patches[j].row_offset = offset[0] if offset else 0
                j += 1
            ends.append(j)
        self.slot_end, self.storage_end, self.size_end, self.scalar_end, self.patch_end = ends
        for i in range(self.random_count):
            self.keep.append(schedule.random_states[i])
            self.random_states[i] = <uint64_t *>cnp.PyArray_DATA(
                <cnp.ndarray>schedule.random_states[i])

    cdef int _fill(self, fastnn_op *target, operation, list found) except -1:
        cdef fastnn_args *args = &target.args
        cdef const fastnn_entry *entry
        cdef uintptr_t address = <uintptr_t>args
        slots, storages, sizes, scalars, accumulates = found
        if operation.python is not None:
            call = PythonCall(operation, self.memory, self.bound, self.failure)
            self.keep.append(call)
            self.has_python = True
            target.kernel = python_kernel
            args.python = <void *>call
        else:
            entry = find_entry(operation.kernel)
            check_counts(entry, len(operation.pointers), len(operation.sizes),
                         len(operation.scalars))
            target.kernel = kernel_of(entry, self.schedule.dtype.itemsize == 8)
            self._add_work(entry, operation)
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
                slots.append((address, i, self.slots[root.slot], root.part * root.row_bytes))
            else:
                storages.append((address, i, self.storages.setdefault(
                    root.storage, len(self.storages))))
        for i, size in enumerate(operation.sizes):
            if isinstance(size, RowCount):
                sizes.append((address, i, size.per_sample))
            else:
                args.n[i] = size
        for i, scalar in enumerate(operation.scalars):
            if isinstance(scalar, Scalar):
                scalars.append((address, i, self.scalars.setdefault(
                    scalar.name, len(self.scalars))))
            else:
                args.s[i] = scalar
        args.accumulate = operation.accumulate
        if operation.parameters and not operation.accumulate:
            accumulates.append((address, 0, 0))
        return 0

    cdef int _add_work(self, const fastnn_entry *entry, operation) except -1:
        """Add an operation to the work that threads can share."""
        cdef ptrdiff_t none[FASTNN_SIZES]  # the sizes for no rows, and for one
        cdef ptrdiff_t one[FASTNN_SIZES]
        if operation.split == SERIAL:
            return 0
        for i, size in enumerate(operation.sizes):
            if isinstance(size, RowCount):
                none[i], one[i] = 0, size.per_sample
            else:
                none[i] = one[i] = size
        if operation.split == ROWS:
            self.work_per_row += operation.items * entry.cost(one)
        else:
            self.work += operation.items * entry.cost(none)
            self.work_per_row += operation.items * (entry.cost(one) - entry.cost(none))
        return 0

    # Before a run ---------------------------------------------------------------------------

    cpdef reserve(self, Py_ssize_t rows):
        """Lay out the buffers for batches of up to `rows` rows."""
        cdef Py_ssize_t i, offset = 0, at
        rows = max(rows, self.capacity)
        offsets = []
        for storage in self.storages:
            offsets.append(offset)
            # an odd number of cache lines apart, so that buffers do not share cache sets
            offset += (storage.bytes + rows * storage.row_bytes + 63) // 64 * 64 + 64
        offset += self._reserve_more(offset, rows)
        self.memory.grow(offset)
        for i in range(len(offsets)):
            at = offsets[i]
            self.addresses[i] = self.memory.start + at
        for i in range(self.slot_end, self.storage_end):
            self.patches[i].args.p[self.patches[i].index] = self.addresses[self.patches[i].value]
        self.capacity, self.nbytes, self.moved = rows, offset, self.memory.moved

    cdef Py_ssize_t _reserve_more(self, Py_ssize_t offset, Py_ssize_t rows) except -1:
        """Bytes that a subclass needs behind the buffers, from `offset` on."""
        return 0

    def check_rows(self, Py_ssize_t rows):
        """Raise ValueError if there are too few rows for the statistics of the batch."""
        if rows < self.minimum_rows:
            raise ValueError(f"x: expected at least {self.minimum_rows} rows for the "
                             f"statistics of the batch, got {rows}")

    @property
    def current(self):
        """Whether the model is still as it was planned."""
        return self.version.value == self.planned

    def has_slot(self, str name):
        """Return whether an operation reads or writes the array `name` of the caller."""
        return name in self.slots

    cdef int _bind_others(self, dict arrays, Py_ssize_t rows) except -1:
        """Point all slots but the usual ones at their arrays, or at nothing."""
        cdef void *address
        for name, slot in self.others:
            array = None if arrays is None else arrays.get(name)
            address = NULL if array is None else cnp.PyArray_DATA(<cnp.ndarray>array)
            self._bind(slot, address, rows)
        return 0

    cdef void _bind(self, ptrdiff_t slot, void *address, Py_ssize_t rows) noexcept nogil:
        cdef Py_ssize_t i
        cdef Patch *patch
        for i in range(self.slot_end):
            patch = &self.patches[i]
            if patch.value == slot:
                patch.args.p[patch.index] = (
                    NULL if address == NULL else <char *>address + rows * patch.row_offset)

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

    cdef int _threads(self, Py_ssize_t rows) noexcept nogil:
        cdef double work = self.work + rows * self.work_per_row if rows > 1 else 0
        return threads_for(work, self.meetings)

    # Runs -----------------------------------------------------------------------------------

    cdef int _prepare(self, fastnn_run *run, Py_ssize_t rows, int first, int last) except -1:
        """Fill in everything of a run that does not change from batch to batch."""
        cdef Py_ssize_t i
        if rows < self.minimum_rows:
            self.check_rows(rows)
        if rows > self.capacity or self.moved != self.memory.moved:
            self.reserve(rows)
        run.threads = self._threads(rows)
        run.pace = &self.paces[2 * (first == 0) + (last == self.call_count)]
        run.calls = self.calls + first
        run.count = last - first
        run.rows = rows
        run.update = NULL
        run.failed = &self.failure.failed
        run.keep_denormals = 0
        self.failure.failed = 0
        for i in range(self.storage_end, self.size_end):
            self.patches[i].args.n[self.patches[i].index] = rows * self.patches[i].value
        return 0

    cdef int _raise(self) except -1:
        error, self.failure.error, self.failure.failed = self.failure.error, None, 0
        raise error

    cdef void _advance(self) noexcept nogil:
        cdef Py_ssize_t i
        for i in range(self.random_count):
            self.random_states[i][1] += 1

    cdef int _run(self, Py_ssize_t rows, int first, int last,
                  fastnn_pace *pace=NULL) except -1:
        """Run the calls from `first` to before `last`; `pace` is for parts that have their own."""
        cdef fastnn_run run
        cdef Scratch scratch
        self._prepare(&run, rows, first, last)
        if pace != NULL:
            run.pace = pace
        scratch = take_scratch(&run)
        if first == 0:
            self._advance()
        with nogil:
            self.threads = execute(&run)
        give_back(scratch)
        if self.has_python:
            self.bound.clear()
        if self.failure.failed:
            self._raise()
        return 0

    def forward(self, Py_ssize_t rows, cnp.ndarray x, cnp.ndarray y, dict arrays=None):
        """Run the forward pass on checked arrays.

        y may be None if no operation writes it; `arrays` are those of further slots.
        """
        self._bind(self.x_slot, cnp.PyArray_DATA(x), rows)
        self._bind(self.y_slot, NULL if y is None else cnp.PyArray_DATA(y), rows)
        if self.others:
            self._bind_others(arrays, rows)
        if self.has_python:
            self.bound["x"], self.bound["y"] = x, y
        self._run(rows, 0, self.forward_count)

    def backward(self, Py_ssize_t rows, cnp.ndarray dy, cnp.ndarray dx, dict arrays=None,
                 bint accumulate=False):
        """Run the backward pass and the parameter gradients, which may add to what is there.

        dx may be None if no operation writes it.
        """
        cdef Py_ssize_t i
        for i in range(self.scalar_end, self.patch_end):
            self.patches[i].args.accumulate = accumulate
        self._bind(self.dy_slot, cnp.PyArray_DATA(dy), rows)
        self._bind(self.dx_slot, NULL if dx is None else cnp.PyArray_DATA(dx), rows)
        if self.others:
            self._bind_others(arrays, rows)
        if self.has_python:
            self.bound["dx"], self.bound["dy"] = dx, dy
        self._run(rows, self.forward_count, self.call_count)
