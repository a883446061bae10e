"""Runs a kernel of ``kernels/cuda/tensor_cores.py`` without a GPU: its own code, for all threads of a block at once.

What is a number in a thread is here a NumPy array with an element for each thread. The instructions of
``kernels/cuda/ptx.py`` are replaced by functions that do what the PTX ISA says, and that complain where it promises
nothing: an address that is not a multiple of the width, a read outside of a matrix or of shared memory that was never
written, a copy that nobody waited for, and a race (two threads at one place, one of them writing, without a barrier
between).
"""

import types

import numpy as np

from tests.reference_tensor_cores import bf16, multiply, tf32

NOBODY, MANY = -1, -2


class Kind:
    """A type of numbers: converts, and says what local arrays hold."""

    def __init__(self, real):
        self.real = real

    def __call__(self, x):
        return np.asarray(x).astype(self.real)


class Matrices:
    """Global memory, as far as it is read by address: nothing but the numbers of these matrices."""

    def __init__(self, *arrays):
        self.arrays = arrays

    def read(self, address):
        for array in self.arrays:
            offset = address - array.ctypes.data
            if 0 <= offset < array.strides[0] * array.shape[0]:
                row, rest = divmod(offset, array.strides[0])
                assert rest % 4 == 0 and rest // 4 < array.shape[1], f"a read beyond the end of row {row}"
                return array[row, rest // 4]
        raise AssertionError(f"address {address} lies in no matrix")


class Block:
    """A block of threads, its shared memory, and the names that a kernel finds around it.

    late : asynchronous copies land at the last moment that the PTX ISA allows, else at once.
    """

    def __init__(self, threads, shared_bytes, matrices, late=True):
        self.thread = np.arange(threads)
        self.matrices = matrices
        self.late = late
        words = shared_bytes // 4
        self.memory = np.full(words, np.nan, np.float32)
        self.epoch = 1
        self.written_at = np.zeros(words, int)  # 0: never
        self.writer = np.full(words, NOBODY)
        self.flying = np.zeros(words, bool)
        self.read_at = np.zeros(words, int)
        self.reader = np.full(words, NOBODY)
        self.groups = [[]]

    # Shared memory.

    def _words(self, address, count):
        address = np.broadcast_to(np.asarray(address, np.int64), self.thread.shape)
        assert (address % (4 * count) == 0).all(), "an address is not a multiple of the width"
        words = address[:, None] // 4 + np.arange(count)
        assert (words >= 0).all() and (words < self.memory.size).all(), "outside of shared memory"
        return words

    def _before_write(self, word, thread):
        assert not self.flying[word], f"word {word}: a copy to it is under way"
        read = self.read_at[word] == self.epoch and self.reader[word] != thread
        written = self.written_at[word] == self.epoch and self.writer[word] != thread
        assert not read and not written, f"word {word}: a race of thread {thread}, which writes"

    def load(self, address, count):
        words = self._words(address, count)
        assert not self.flying[words].any(), "a copy to what is read is under way"
        assert (self.written_at[words] > 0).all(), "what is read was never written"
        own = self.writer[words] == self.thread[:, None]
        assert ((self.written_at[words] < self.epoch) | own).all(), "a race: what is read was written since the barrier"
        for thread, row in zip(self.thread, words, strict=True):
            again = self.read_at[row] == self.epoch
            self.reader[row] = np.where(again & (self.reader[row] != thread), MANY, thread)
        self.read_at[words] = self.epoch
        return tuple(self.memory[words].T)

    def store_shared(self, address, value):
        for thread, (word,) in zip(self.thread, self._words(address, 1), strict=True):
            self._before_write(word, thread)
            self.written_at[word], self.writer[word] = self.epoch, thread
            self.memory[word] = value[thread]

    # Asynchronous copies.

    def copy(self, address, source, count, width):
        words = self._words(address, width)
        source = np.broadcast_to(source, self.thread.shape)
        count = np.broadcast_to(count, self.thread.shape)
        assert (source % (4 * width) == 0).all(), "a source is not a multiple of the width"
        assert (count % 4 == 0).all() and (count >= 0).all() and (count <= 4 * width).all()
        for thread, row in zip(self.thread, words, strict=True):
            inside = count[thread] // 4
            values = [self.matrices.read(int(source[thread]) + 4 * i) if i < inside else 0 for i in range(width)]
            for word, value in zip(row, values, strict=True):
                self._before_write(word, thread)
                self.flying[word], self.writer[word] = True, thread
                if not self.late:
                    self.memory[word] = value
                self.groups[-1].append((word, value))

    def commit_copies(self):
        self.groups.append([])

    def wait_for_copies(self, pending):
        while len(self.groups) - 1 > pending:
            for word, value in self.groups.pop(0):
                self.memory[word] = value
                self.flying[word], self.written_at[word] = False, self.epoch

    def syncthreads(self):
        self.epoch += 1

    # Global memory.

    def finish(self, wanted, end, c, second, vector, x, y, row, column, total):
        row, column, wanted = (np.broadcast_to(number, self.thread.shape) for number in (row, column, wanted))
        for thread in self.thread[wanted]:
            end(c, second, vector, x, y, int(row[thread]), int(column[thread]), total[thread])

    # Tensor cores.

    def multiply_tf32(self, c, *registers):
        numbers = [np.asarray(register, np.uint32).view(np.float32) for register in registers]
        for number in numbers:
            np.testing.assert_array_equal(number, tf32(number), "not rounded to TF32")
        return self._multiply(c, numbers[:4], numbers[4:], A_TF32, B_TF32, "tf32")

    def multiply_bf16(self, c, *registers):
        numbers = []
        for register in registers:
            bits = np.asarray(register, np.uint32)
            numbers += [(bits << np.uint32(16)).view(np.float32), (bits & np.uint32(0xFFFF0000)).view(np.float32)]
        return self._multiply(c, numbers[:8], numbers[8:], A_BF16, B_BF16, "bf16")

    def _multiply(self, c, a, b, a_layout, b_layout, kind):
        c, a, b = (self._matrices(*pair) for pair in ((c, C_LAYOUT), (a, a_layout), (b, b_layout)))
        d = multiply(c, a, b, kind)
        rows, columns = C_LAYOUT
        return tuple(d[:, rows, columns].transpose(2, 0, 1).reshape(4, -1))

    def _matrices(self, registers, layout):
        """The matrices of all warps, from what their threads hold."""
        rows, columns = layout
        held = np.stack([np.broadcast_to(register, self.thread.shape) for register in registers], -1)
        matrices = np.full((len(self.thread) // 32, rows.max() + 1, columns.max() + 1), np.nan, np.float32)
        matrices[:, rows, columns] = held.reshape(-1, 32, len(registers))
        assert not np.isnan(matrices).any() or np.isnan(held).any()
        return matrices

    def names(self, block_index):
        """What the kernel finds under the names of the instructions, and of what else differs."""
        shared = types.SimpleNamespace(array=lambda shape, kind, alignment: 0)
        local = types.SimpleNamespace(
            array=lambda shape, kind: np.zeros((*np.atleast_1d(shape), len(self.thread)), kind.real)
        )
        cuda = types.SimpleNamespace(
            threadIdx=types.SimpleNamespace(x=self.thread),
            blockIdx=types.SimpleNamespace(**dict(zip("xyz", block_index, strict=True))),
            shared=shared,
            local=local,
            syncthreads=self.syncthreads,
        )
        return {
            "cuda": cuda,
            "kernel": lambda threads: lambda function: function,
            "float32": Kind(np.float32),
            "int32": Kind(np.int32),
            "uint32": Kind(np.uint32),
            "min": np.minimum,
            "max": np.maximum,
            "select": np.where,
            "shared_address": lambda array: 0,
            "global_address": lambda array: array.ctypes.data,
            "load_shared": lambda address: self.load(address, 1)[0],
            "load_shared_4": lambda address: self.load(address, 4),
            "store_shared": self.store_shared,
            "copy_4_bytes": lambda to, source, count: self.copy(to, source, count, 1),
            "copy_16_bytes": lambda to, source, count: self.copy(to, source, count, 4),
            "commit_copies": self.commit_copies,
            "wait_for_copies": self.wait_for_copies,
            "finish": self.finish,
            "round_tf32": lambda x: tf32(x).view(np.uint32),
            "float_from_bits": lambda bits: bits.view(np.float32),
            "pack_bf16": lambda low, high: (bf16(low).view(np.uint32) >> np.uint32(16)) | bf16(high).view(np.uint32),
            "multiply_tf32": self.multiply_tf32,
            "multiply_bf16": self.multiply_bf16,
        }


def _layout(row, column):
    """Arrays (thread of a warp, register) of the rows and columns of what it holds."""
    lane = np.arange(32)[:, None]
    return row(lane >> 2, lane % 4), column(lane >> 2, lane % 4)


# PTX ISA 9.0, section 9.7.14.5, "Matrix fragments for mma.m16n8k8" (.tf32) and "for mma.m16n8k16" (.bf16):
# group = lane >> 2, thread = lane % 4; number i of a fragment.
_two, _four, _eight = np.arange(2), np.arange(4), np.arange(8)
C_LAYOUT = _layout(lambda group, thread: group + 8 * (_four // 2), lambda group, thread: 2 * thread + _four % 2)
A_TF32 = _layout(lambda group, thread: group + 8 * (_four % 2), lambda group, thread: thread + 4 * (_four // 2))
B_TF32 = _layout(lambda group, thread: thread + 4 * _two, lambda group, thread: group + 0 * _two)
A_BF16 = _layout(
    lambda group, thread: group + 8 * (_eight // 2 % 2),
    lambda group, thread: 2 * thread + _eight % 2 + 8 * (_eight // 4),
)
B_BF16 = _layout(
    lambda group, thread: 2 * thread + _four % 2 + 8 * (_four // 2), lambda group, thread: group + 0 * _four
)


def with_names(module, names):
    """A module's names, its functions as plain Python that finds ``names`` in the place of the module's own."""
    namespace = vars(module) | names

    def plain(thing):
        if isinstance(thing, dict):
            return {key: plain(value) for key, value in thing.items()}
        if type(thing) is tuple:
            return tuple(map(plain, thing))
        function = getattr(thing, "py_func", getattr(thing, "__wrapped__", thing))
        if isinstance(function, types.FunctionType) and function.__globals__ is vars(module):
            return types.FunctionType(
                function.__code__, namespace, function.__name__, function.__defaults__, function.__closure__
            )
        return thing

    for name in set(namespace) - set(names):
        namespace[name] = plain(namespace[name])
    return namespace
