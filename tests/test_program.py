"""Programs: any batch size, both dtypes, any number of threads, layers in Python."""

import os
import subprocess
import sys
from functools import partial

import numpy as np
import pytest

import fastnn
from fastnn import losses, optim
from fastnn._kernels import core
from fastnn._kernels.program import Memory, Program, Version
from fastnn._planning import builder as planning
from fastnn._planning.schedule import Schedule
from fastnn.training.plan import make_program


def wide(dtype="float32", dropout=0.2):
    """A model of most kinds of operations."""
    return fastnn.Sequential(
        fastnn.Linear(96, 128),
        fastnn.GELU(),
        fastnn.Dropout(dropout),
        fastnn.Residual(fastnn.Linear(128, 128), fastnn.Tanh()),
        fastnn.Concat(fastnn.Linear(128, 5), fastnn.SiLU()),
        fastnn.Linear(133, 10),
        dtype=dtype,
        rng=0,
    )


def test_batches_smaller_and_larger_than_the_capacity(dtype, rng):
    model = wide(dtype.name)
    x = rng.normal(size=(300, 96)).astype(dtype)
    expected = model(x)
    program = model._program((96,), False)
    assert program.capacity == 300
    for rows in (1, 7, 299, 300, 0):
        np.testing.assert_array_equal(model(x[:rows]), expected[:rows])
        assert program.capacity == 300
    bytes_before = program.nbytes
    more = np.concatenate([x, x])
    np.testing.assert_array_equal(model(more), np.concatenate([expected, expected]))
    assert model._program((96,), False) is program
    assert program.nbytes > bytes_before


def test_backward_after_the_buffers_have_grown(dtype, rng):
    def gradients(sizes):
        model = wide(dtype.name, dropout=0)
        for rows in sizes:
            x = np.random.default_rng(rows).normal(size=(rows, 96)).astype(dtype)
            model.forward(x, training=True)
            dx = model.backward(np.ones((rows, 10), dtype))
        return [dx, *(p.grad for p in model.parameters())]

    for one, other in zip(gradients([40]), gradients([8, 100, 40]), strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_number_of_threads_changes_no_bit(dtype, rng, threads):
    x, dy = rng.normal(size=(203, 96)).astype(dtype), rng.normal(size=(203, 10)).astype(dtype)

    def run(count):
        threads(count)
        model = wide(dtype.name)
        y = model.forward(x, training=True)
        dx = model.backward(dy)
        model.forward(x, training=True)
        model.backward(dy, accumulate=True)
        return [y, dx, *(p.grad.copy() for p in model.parameters())]

    for one, other in zip(run(1), run(2), strict=True):
        np.testing.assert_array_equal(one, other)


def test_programs_tell_how_many_threads_they_used(rng, threads):
    model, before = fastnn.Sequential(fastnn.Linear(3, 2), fastnn.ReLU(), rng=0), core.sharing()
    program = model._program((3,), False)
    for count, mode, used in [(2, "always", 2), (1, "always", 1), (2, "never", 1),
                              (2, "learned", 1)]:  # fmt: skip
        threads(count)
        core.share(mode)
        model(rng.normal(size=(7, 3)))
        assert program.threads == used
    core.share(before)


def test_runs_at_the_same_time_divide_the_threads(rng, threads):
    """A run within a run, from a layer in Python, is the surest way to have two."""
    used, before = [], core.sharing()
    threads(2)
    core.share("always")
    inner = fastnn.Sequential(fastnn.Linear(3, 3), rng=0)

    class Nested(fastnn.Layer):
        def forward(self, x, training=False):
            y = inner(x)
            used.append(inner._program((3,), False).threads)
            return y

    outer = fastnn.Sequential(fastnn.Linear(3, 3), Nested(), rng=0)
    outer(rng.normal(size=(7, 3)))
    inner(rng.normal(size=(7, 3)))
    core.share(before)
    assert used == [1]
    assert inner._program((3,), False).threads == 2


def test_more_threads_than_rows(rng, threads):
    threads(8)
    model = wide()
    x = rng.normal(size=(3, 96)).astype(np.float32)
    many = model(x)
    threads(1)
    np.testing.assert_array_equal(many, model(x))


def test_threads_run_serial_operations_once(rng, threads):
    class Half(fastnn.Layer):
        def forward(self, x, training=False):
            calls.append(len(x))
            return x / 2

        def backward(self, dy, accumulate=False):
            calls.append(len(dy))
            return dy / 2

    def run(count):
        threads(count)
        model = fastnn.Sequential(
            fastnn.Linear(96, 128), Half(), fastnn.ReLU(), fastnn.Linear(128, 10), rng=0
        )
        trainer = fastnn.Trainer(model, "mse", optim.SGD(model.parameters(), lr=0.1))
        return [trainer.step(x, y) for _ in range(3)]

    calls = []
    x, y = rng.normal(size=(200, 96)), rng.normal(size=(200, 10))
    assert run(1) == run(2)
    assert calls == [200] * 12


def test_the_first_gradient_of_the_input_is_not_computed_for_a_loss():
    model = fastnn.Sequential(fastnn.Linear(8, 4), fastnn.ReLU(), fastnn.Linear(4, 2))
    program = make_program(model, (8,), losses.resolve("mse"))
    assert program.schedule.y.shape == (2,)
    kernels = [op.kernel for op in program.schedule.operations]
    assert kernels.count("linear_backward_input") == 1
    assert kernels.count("linear_backward_weight") == 2
    # and everything between two products is part of the first
    assert [op.kernel for op in program.schedule.calls] == [
        "linear_forward", "linear_forward", "linear_backward_input",
        "linear_backward_weight", "linear_backward_weight",
    ]  # fmt: skip


def test_no_two_values_that_live_at_once_share_memory():
    schedule = wide()._schedule((96,), training=True)
    operations = schedule.operations
    life = {}
    for index, op in enumerate(operations):
        for value in op.read + op.written:
            life.setdefault(value, [index, index])[1] = index
    life[schedule.y.root][1] = len(operations)
    values = [value for value in life if value.storage]
    for i, one in enumerate(values):
        for other in values[:i]:
            if one.storage is other.storage:
                first, second = sorted([life[one], life[other]])
                # the one may end where the other begins: in place
                assert first[1] <= second[0], (one, other)


def test_accepts_only_what_needs_no_conversion():
    model = fastnn.Sequential(fastnn.Linear(4, 3), rng=0)
    program = make_program(model, (4,), losses.resolve("cross_entropy"))
    x, y, w = np.ones((5, 4), np.float32), np.zeros(5, np.int64), np.ones(5, np.float32)
    assert program.accepts(x, y, None)
    assert program.accepts(x, y, w)
    x.flags.writeable = False
    assert program.accepts(x, y, w)
    strided = np.ones((10, 4), np.float32)[::2]
    unaligned = np.ones(81, np.uint8)[1:].view(np.float32).reshape(5, 4)
    for wrong in (
        (x[:4], y, None), (x, y[:4], None), (x, y, w[:4]), (x, y, w.astype(float)),
        (x[:0], y[:0], None), (x[:, :3], y, None), (x.astype(float), y, None), (x[0], y, None),
        (x.astype(">f4"), y, None), (strided, y, None), (np.asfortranarray(x), y, None),
        (unaligned, y, None), (x.tolist(), y, None), (x, y.tolist(), None), (x, y, w.tolist()),
        (x, y.astype(np.int32), None), (x, y[:, None], None), (x, y - 1, None), (x, y + 3, None),
        (np.float32(3), y, None), (None, y, None),
    ):  # fmt: skip
        assert not program.accepts(*wrong)
    ignoring = losses.resolve(partial(losses.cross_entropy, ignore_index=-1))
    program = make_program(model, (4,), ignoring)
    assert program.accepts(x, y - 1, None)
    assert not program.accepts(x, y - 2, None)


def test_values_and_scalars_of_a_program():
    builder = planning.Builder("float64", training=False)
    x = builder.value((3,), "x", slot="x")
    y = builder.value((3,), "y")
    builder.forward("leaky_relu_forward", [y, x], sizes=(3,), scalars=(planning.Scalar("slope"),))
    program = Program(Schedule.of(builder, [y]), Memory(), Version())
    assert program.has_slot("x")
    assert not program.has_slot("y")
    given, out = np.array([[-1.0, 0.0, 2.0]]), np.empty((1, 3))
    for slope in (0.5, 0.25):
        program.set_scalar("slope", slope)
        program.forward(1, given, None)
        program.read(y, out)
        np.testing.assert_array_equal(out, [[-slope, 0, 2]])


def test_an_unknown_kernel_is_refused():
    builder = planning.Builder("float32", training=False)
    x, y = builder.value((3,), "x", slot="x"), builder.value((3,), "y")
    with pytest.raises(KeyError, match="no_such_kernel"):
        builder.forward("no_such_kernel", [y, x])


@pytest.mark.parametrize(
    ("inputs", "sizes", "scalars", "message"),
    [
        (0, (3,), (0.1,), "leaky_relu_forward: expected 2 pointers, got 1"),
        (11, (3,), (0.1,), "leaky_relu_forward: expected 2 pointers, got 12"),
        (1, (), (0.1,), "leaky_relu_forward: expected 1 sizes, got 0"),
        (1, (3,), (), "leaky_relu_forward: expected 1 scalars, got 0"),
    ],
)
def test_a_plan_with_wrong_numbers_of_arguments_is_refused(inputs, sizes, scalars, message):
    builder = planning.Builder("float32", training=False)
    x, y = builder.value((3,), "x", slot="x"), builder.value((3,), "y")
    builder.forward("leaky_relu_forward", [y, *[x] * inputs], sizes=sizes, scalars=scalars)
    with pytest.raises(ValueError, match=f"^{message}$"):
        Program(Schedule.of(builder, [y]), Memory(), Version())


def test_python_calls_have_at_most_so_many_arrays():
    def total(out, *given):
        out[...] = sum(given)

    def program(inputs):
        builder = planning.Builder("float32", training=False)
        x, y = builder.value((3,), "x", slot="x"), builder.value((3,), "y", slot="y")
        builder.python(planning.FORWARD, total, [y, *[x] * inputs])
        return Program(Schedule.of(builder, [y]), Memory(), Version())

    with pytest.raises(ValueError, match="total: expected at most 10 pointers, got 11"):
        program(10)
    most, x, y = program(9), np.ones((2, 3), np.float32), np.empty((2, 3), np.float32)
    most.forward(2, x, y)
    np.testing.assert_array_equal(y, 9)


def test_dropout_is_the_same_for_any_threads_and_differs_from_step_to_step(rng, threads):
    x = np.ones((500, 1000), np.float32)

    def masks(count):
        threads(count)
        layer = fastnn.Dropout(0.5, rng=0)
        return [layer.forward(x, training=True) for _ in range(2)]

    one, other = masks(1), masks(2)
    np.testing.assert_array_equal(one, other)
    assert (one[0] != one[1]).any()


@pytest.mark.parametrize("stage", ["forward", "backward"])
def test_an_error_in_a_python_layer_comes_out_and_the_program_goes_on(stage, threads):
    class Fragile(fastnn.Layer):
        def forward(self, x, training=False):
            if broken and stage == "forward":
                raise KeyError("on purpose")
            return x

        def backward(self, dy, accumulate=False):
            if broken:
                raise KeyError("on purpose")
            return dy

    threads(2)
    broken = False
    model = fastnn.Sequential(fastnn.Linear(96, 128), Fragile(), fastnn.Linear(128, 128), rng=0)
    x = np.ones((100, 96), np.float32)
    expected = model.forward(x, training=True)
    broken = True
    with pytest.raises(KeyError, match="on purpose"):
        model.backward(expected) if stage == "backward" else model(x)
    broken = False
    np.testing.assert_array_equal(model.forward(x, training=True), expected)
    model.backward(expected)


def test_a_python_layer_that_gives_the_wrong_shape():
    class Wrong(fastnn.Layer):
        def forward(self, x, training=False):
            return x[:, :-1]

    with pytest.raises(ValueError, match="Wrong: expected a result of shape"):
        fastnn.Sequential(fastnn.Linear(3, 3), Wrong(), rng=0)(np.ones((2, 3)))


FORK = """
import os, signal
import numpy as np, fastnn
from fastnn._kernels import core

core.share("always")
fastnn.set_num_threads(2)
model = fastnn.Sequential(fastnn.Linear(784, 256), fastnn.ReLU(), fastnn.Linear(256, 10), rng=0)
x = np.random.default_rng(0).normal(size=(512, 784)).astype(np.float32)
expected = model(x)
child = os.fork()
if child == 0:
    signal.alarm(30)  # ends a child that hangs
    same = fastnn.get_num_threads() == 1 and np.array_equal(model(x), expected)
    fastnn.set_num_threads(2)
    same = same and np.array_equal(model(x), expected)
    program = model._program((784,), False)
    os._exit(0 if same and program.threads == 2 else 1)
assert os.waitpid(child, 0)[1] == 0
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_computes_the_same():
    """On one thread, and on new ones. Away from other libraries' threads."""
    subprocess.run([sys.executable, "-c", FORK], check=True, timeout=60)
