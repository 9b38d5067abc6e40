"""Arrays beside which nothing may be read or written."""

import ctypes
import mmap

import numpy as np

GUARD = 64  # bytes on both sides of every array, which no kernel may touch
FILL = 0xA5


class Guarded:
    """A copy of an array that starts `offset` elements behind an aligned address, with guards."""

    def __init__(self, array: np.ndarray, offset: int):
        start = GUARD + offset * array.itemsize
        self.memory = np.full(array.nbytes + start + 2 * GUARD, FILL, np.uint8)
        start += -self.memory.ctypes.data % GUARD
        self.array = self.memory[start : start + array.nbytes].view(array.dtype)
        self.array = self.array.reshape(array.shape)
        self.array[...] = array
        self.outside = np.ones(self.memory.size, bool)
        self.outside[start : start + array.nbytes] = False
        self.before = self.memory.copy()

    def check_guards(self) -> None:
        assert (self.memory[self.outside] == FILL).all(), "memory beside an output was written"

    def check_unchanged(self) -> None:
        assert (self.memory == self.before).all(), "an input was written"


class Fenced:
    """Copies of arrays that end, or begin, at a page that nobody may touch: the process would die.

    For C libraries of Unix, which take the page's rights away.
    """

    def __init__(self, at_end: bool):
        self.at_end = at_end
        self.maps: list[mmap.mmap] = []
        self.protect = ctypes.CDLL(None, use_errno=True).mprotect
        self.protect.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int

    def copy(self, array: np.ndarray) -> np.ndarray:
        page, size = mmap.PAGESIZE, max(array.nbytes, 1)
        room = -(-size // page) * page
        memory = mmap.mmap(-1, room + page)
        start = 0 if self.at_end else page
        fence = ctypes.addressof(ctypes.c_char.from_buffer(memory)) + (room if self.at_end else 0)
        if self.protect(fence, page, 0):
            raise OSError(ctypes.get_errno(), "mprotect")
        self.maps.append(memory)
        first = start + (room - array.nbytes if self.at_end else 0)
        flat = np.frombuffer(memory, np.uint8, array.nbytes, first)
        copy = flat.view(array.dtype).reshape(array.shape)
        copy[...] = array
        return copy
