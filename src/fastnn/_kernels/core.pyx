# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# cython: binding=True, embedsignature=False
"""Instruction set, threads, and kernels by name: what reaches the C code, linked into here."""

import os
from collections import namedtuple

cimport numpy as cnp
from libc.stdint cimport uintptr_t
from libc.string cimport memset

from fastnn._door.numbers import integer
from fastnn._processors import quota

cdef extern from "Python.h":
    void *PyInterpreterState_Get()
    void *PyInterpreterState_Main()

cdef extern from "memory.h" nogil:
    void *fastnn_allocate(size_t size)
    void fastnn_free(void *data)

cdef extern from "dispatch.h":
    ctypedef struct fastnn_table:
        const char *isa
        int vector_bytes
        int count
        const fastnn_entry *entries
    const fastnn_table *fastnn_active
    int fastnn_threads
    int fastnn_share
    int FASTNN_SHARE_LEARNED
    int FASTNN_SHARE_ALWAYS
    int FASTNN_SHARE_NEVER
    int fastnn_dispatch(const char *request)
    const char *fastnn_variant(int i, int *supported)

cdef extern from "program.h" nogil:
    int fastnn_execute(const fastnn_run *run)
    double fastnn_sum(const void *values, ptrdiff_t n, int is_double)

cdef extern from "pool.h" nogil:
    void fastnn_stay_alone()
    int fastnn_thread_limit()

if PyInterpreterState_Get() != PyInterpreterState_Main():
    raise ImportError("fastnn: expected the main interpreter of a process, got a subinterpreter, "
                      "where a layer in Python could not be called; use threads or processes")

cnp.import_array()


# Instruction set ------------------------------------------------------------------------------

def variants():
    """Return the instruction sets of this build, best first, each with whether it runs here."""
    cdef int i = 0, supported = 0
    found = {}
    while True:
        name = fastnn_variant(i, &supported)
        if name == NULL:
            return found
        found[name.decode()] = bool(supported)
        i += 1


def select_isa(str name=""):
    """Use the kernels of the instruction set `name`; the best one that runs here if empty."""
    if fastnn_dispatch(name.encode()) != 0:
        known = variants()
        usable = ", ".join(key for key, runs in known.items() if runs)
        reason = "this processor does not run it" if name in known else "there is no such variant"
        raise ValueError(f"FASTNN_ISA: expected one of {usable}, got {name!r} ({reason})")


def isa():
    """Return the name of the instruction set in use."""
    return fastnn_active.isa.decode()


def vector_bytes():
    """Return the width of a vector register of the instruction set in use, in bytes."""
    return fastnn_active.vector_bytes


def kernel_names():
    """Return the names of all kernels in the table."""
    return [fastnn_active.entries[i].name.decode() for i in range(fastnn_active.count)]


# Threads --------------------------------------------------------------------------------------

def set_num_threads(n):
    """Set how many threads a step, a prediction or a function of :mod:`fastnn.ops` may use.

    Parameters
    ----------
    n : int
        From 1 to 1024. Work too small to share runs on one thread whatever the limit.

    Raises
    ------
    TypeError
        If `n` is not an integer.
    ValueError
        If `n` is out of range.
    """
    global fastnn_threads
    fastnn_threads = integer("n", n, 1, 1024)


def get_num_threads():
    """Return how many threads a training step may use."""
    return fastnn_thread_limit()


def one_thread():
    """Let the calling thread run everything by itself from now on."""
    fastnn_stay_alone()


cdef dict SHARE = {"learned": FASTNN_SHARE_LEARNED, "always": FASTNN_SHARE_ALWAYS,
                   "never": FASTNN_SHARE_NEVER}


def share(str mode):
    """Set when work is shared among threads: "learned", where that is faster; "always"; "never"."""
    global fastnn_share
    if mode not in SHARE:
        raise ValueError(f"FASTNN_SHARE: expected one of {', '.join(SHARE)}, got {mode!r}")
    fastnn_share = SHARE[mode]


def sharing():
    """Return when work is shared among threads, as :func:`share` takes it."""
    return next(mode for mode, value in SHARE.items() if value == fastnn_share)


# How much work pays for threads to meet once, in the unit of the costs in the table of kernels. Two
# threads were as fast as one at 0.6e6 for a single kernel, where they start and join; and at 2.5e6
# for a training step of three layers, where they wait for each other besides.
cdef double WORK_PER_MEETING = 1e6


cdef int threads_for(double work, Py_ssize_t meetings) noexcept nogil:
    """How many threads may share so much work, between which they meet so often."""
    if fastnn_share == FASTNN_SHARE_NEVER:
        return 1
    if fastnn_share == FASTNN_SHARE_ALWAYS or work >= meetings * WORK_PER_MEETING:
        return fastnn_thread_limit()
    return 1


cdef int processors():
    """How many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _initialise():
    global fastnn_threads
    select_isa(os.environ.get("FASTNN_ISA", ""))
    fastnn_threads = max(1, int(min(processors(), quota(), 1024)))
    wanted = os.environ.get("FASTNN_NUM_THREADS")
    if wanted:
        if not wanted.isdecimal() or int(wanted) < 1:
            raise ValueError(f"FASTNN_NUM_THREADS: expected a positive integer, got {wanted!r}")
        set_num_threads(int(wanted))
    else:
        # what pools of processes tell theirs, which would get into each other's way (joblib)
        usual = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
        if usual.isdecimal() and int(usual) > 0:
            fastnn_threads = min(fastnn_threads, int(usual))
    share(os.environ.get("FASTNN_SHARE") or "learned")


_initialise()

# A child is often one of many, each of which has its processor.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: set_num_threads(1))


# Kernels by name ------------------------------------------------------------------------------

# Where each stands in the table, which is in one order for all instruction sets.
cdef dict places = {name: i for i, name in enumerate(kernel_names())}


cdef const fastnn_entry *find_entry(str name) except NULL:
    cdef object place = places.get(name)
    if place is None:
        raise KeyError(f"no kernel named {name!r}")
    return &fastnn_active.entries[<Py_ssize_t>place]


cdef fastnn_kernel kernel_of(const fastnn_entry *entry, bint is_double) noexcept nogil:
    return entry.f64 if is_double else entry.f32


cdef int check_counts(const fastnn_entry *entry, Py_ssize_t pointers, Py_ssize_t sizes,
                      Py_ssize_t scalars) except -1:
    """Raise a ValueError if a call has another number of arguments than its kernel takes."""
    if pointers == entry.pointers and sizes == entry.sizes and scalars == entry.scalars:
        return 0
    for kind, expected, got in (("pointers", entry.pointers, pointers),
                                ("sizes", entry.sizes, sizes),
                                ("scalars", entry.scalars, scalars)):
        if got != expected:
            raise ValueError(f"{entry.name.decode()}: expected {expected} {kind}, got {got}")


Contract = namedtuple("Contract", ["outputs", "pointers", "sizes", "scalars", "in_place",
                                   "accumulates", "takes_then", "whole", "narrows"])
Contract.__doc__ = "How many arguments a kernel takes and what it promises; see c/table.h."

cdef dict _contracts = {}  # those that have been asked for


def contract(str name):
    """Return the :class:`Contract` of the kernel `name`."""
    cdef const fastnn_entry *entry
    if name not in _contracts:
        entry = find_entry(name)
        flags = (FASTNN_IN_PLACE, FASTNN_ACCUMULATES, FASTNN_TAKES_THEN, FASTNN_WHOLE,
                 FASTNN_NARROWS)
        _contracts[name] = Contract(entry.outputs, entry.pointers, entry.sizes, entry.scalars,
                                    *[bool(entry.flags & flag) for flag in flags])
    return _contracts[name]


def cost(str name, tuple sizes):
    """Return the time of one item of the kernel `name`, in operations of a matrix product."""
    cdef const fastnn_entry *entry = find_entry(name)
    cdef ptrdiff_t n[FASTNN_SIZES]
    check_counts(entry, entry.pointers, len(sizes), entry.scalars)
    for i in range(len(sizes)):
        n[i] = sizes[i]
    return entry.cost(n)


# For the other compiled modules ---------------------------------------------------------------

cdef int execute(const fastnn_run *run) noexcept nogil:
    return fastnn_execute(run)


cdef double sum_losses(const void *values, ptrdiff_t n, bint is_double) noexcept nogil:
    return fastnn_sum(values, n, is_double)


def total(cnp.ndarray x):
    """Return the sum of an array of float32 or float64, in order and in double precision."""
    cdef bint is_double = cnp.PyArray_TYPE(x) == cnp.NPY_DOUBLE
    return fastnn_sum(cnp.PyArray_DATA(x), cnp.PyArray_SIZE(x), is_double)


# Single calls ---------------------------------------------------------------------------------

cdef class Scratch:
    """Aligned memory for the kernels' packing, `blocks` times FASTNN_SCRATCH bytes."""

    def __cinit__(self, int blocks=1):
        self.blocks = blocks
        self.data = fastnn_allocate(<size_t>(blocks * FASTNN_SCRATCH))
        if self.data == NULL:
            raise MemoryError("scratch memory for the kernels")

    def __dealloc__(self):
        fastnn_free(self.data)


# Scratch memory that no run is using. Runs go on without the GIL, so each takes its own.
cdef list spare_scratch = []


cdef Scratch take_scratch(fastnn_run *run):
    """Scratch memory for a run with its number of threads; `give_back` after it."""
    cdef Scratch scratch = None
    if spare_scratch:
        try:
            scratch = <Scratch>spare_scratch.pop()
        except IndexError:  # another thread has taken the last
            pass
    if scratch is None or scratch.blocks < run.threads:
        scratch = Scratch(run.threads)
    run.scratch = <char *>scratch.data
    return scratch


cdef void give_back(Scratch scratch):
    spare_scratch.append(scratch)


cdef class Pace:
    """What is known of how fast large calls of one kernel and shape are."""
    cdef fastnn_pace known


# By kernel, sizes and items; learnt anew when they are many.
cdef dict paces = {}
cdef int MOST_PACES = 1000


cdef Pace pace_of(tuple key):
    if len(paces) >= MOST_PACES:
        paces.clear()
    return paces.setdefault(key, Pace())


def call(str name, cnp.dtype dtype, tuple pointers, tuple sizes=(), tuple scalars=(),
         Py_ssize_t items=0, bint accumulate=False, Py_ssize_t first=0):
    """Run the kernel `name` on checked arrays, without the GIL.

    Pointers are arrays or None, in the order that the kernel's comment gives. Nothing but their
    number is checked here: `fastnn.ops` does that. Threads share the items if their cost adds up to
    enough, or with `first` one thread runs those from there on.

    Raises
    ------
    ValueError
        If the kernel takes another number of pointers, sizes or scalars.
    """
    cdef const fastnn_entry *entry = find_entry(name)
    cdef fastnn_call single
    cdef fastnn_run run
    cdef fastnn_args *args = &single.op.args
    cdef int never = 0
    cdef Py_ssize_t i
    cdef Scratch scratch
    cdef Pace pace
    check_counts(entry, len(pointers), len(sizes), len(scalars))
    memset(&single, 0, sizeof(single))
    single.op.kernel = kernel_of(entry, dtype.type_num == cnp.NPY_DOUBLE)
    single.split, single.items = FASTNN_BY_ROWS, 1
    for i in range(len(pointers)):
        if pointers[i] is not None:
            args.p[i] = cnp.PyArray_DATA(<cnp.ndarray>pointers[i])
    for i in range(len(sizes)):
        args.n[i] = sizes[i]
    for i in range(len(scalars)):
        args.s[i] = scalars[i]
    args.accumulate = accumulate
    if items <= first:
        return
    run.calls, run.count, run.update, run.rows = &single, 1, NULL, items
    run.failed, run.keep_denormals = &never, 1
    run.threads = 1
    if items > 1 and first == 0 and not entry.flags & FASTNN_WHOLE:
        run.threads = threads_for(items * entry.cost(args.n), 1)
    if run.threads > 1:
        pace = pace_of((<uintptr_t>single.op.kernel, sizes, items))
        run.pace = &pace.known
    scratch = take_scratch(&run)
    with nogil:
        if first == 0:
            execute(&run)
        else:
            single.op.kernel(args, first, items, run.scratch)
    give_back(scratch)
