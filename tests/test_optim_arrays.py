"""Whose arrays an optimizer takes, and what it refuses before anything is written."""

import array
import threading

import numpy as np
import pytest

from fastnn import optim
from fastnn._door.arrays import as_target
from fastnn._kernels.door import as_input
from fastnn.layers import Parameter
from fastnn.ops import optim as ops


def placed(name, data):
    """A parameter of no layer."""
    parameter = Parameter(None, name, data.shape, None)
    parameter.place(name, data, np.zeros_like(data))
    return parameter


def unaligned(shape, dtype, offset=1):
    memory = np.zeros(np.prod(shape, dtype=int) * np.dtype(dtype).itemsize + 64, np.uint8)
    start = -memory.ctypes.data % 64 + offset
    return memory[start : start + memory.size - 64].view(dtype).reshape(shape)


# Targets ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 7, 15, 16, 17, 33, 1000])
def test_sizes_and_addresses_off_the_vector_grid(n, dtype):
    size = np.dtype(dtype).itemsize
    memory = np.zeros(n + 40, dtype)
    param = unaligned((n + 2,), dtype, offset=size)[1:-1]
    grad = memory[3 : 3 + n]
    grad[:] = np.arange(n)
    memory[:3] = memory[3 + n :] = 7
    param.base[:] = 0
    optim.SGD([param], 0.5, 0.9).step([grad])
    assert np.array_equal(param, -0.5 * np.arange(n))
    assert not param.base.view(np.uint8)[:0].any()
    assert (memory[3 + n :] == 7).all()


def test_neighbours_of_a_parameter_are_not_touched():
    memory = np.ones(64, np.float32)
    optim.Adam([memory[5:28]], 0.1).step([np.ones(23)])
    assert (memory[:5] == 1).all()
    assert (memory[28:] == 1).all()
    assert (memory[5:28] < 1).all()


def test_anything_with_a_buffer(tmp_path):
    buffer = array.array("d", [1, 2, 3])
    block = bytearray(8)
    view = memoryview(block).cast("f")
    disk = np.memmap(tmp_path / "weights", np.float32, "w+", shape=(4, 2))
    optim.SGD([buffer, view, disk], 1.0).step(
        [[1, 1, 1], array.array("f", [2, 3]), np.ones((4, 2))]
    )
    assert buffer.tolist() == [0, 1, 2]
    assert np.frombuffer(block, np.float32).tolist() == [-2, -3]
    disk.flush()
    assert (np.fromfile(tmp_path / "weights", np.float32) == -1).all()


def test_pytorch_tensors_are_updated_in_place():
    torch = pytest.importorskip("torch")
    leaf = torch.ones(3, requires_grad=True)
    plain = torch.ones(2, dtype=torch.float64)
    optimizer = optim.SGD([leaf, plain], 0.5)
    optimizer.step([torch.ones(3), torch.ones(2, dtype=torch.float64)])
    assert leaf.tolist() == [0.5] * 3
    assert plain.tolist() == [0.5] * 2
    leaf.data = torch.zeros(3)  # its memory is replaced
    optimizer.step([np.ones(3), np.ones(2)])
    assert leaf.tolist() == [-0.5] * 3
    own = optim.SGD([leaf], 1.0)
    with pytest.raises(RuntimeError, match="no gradient"):
        own.step()
    (leaf * 2).sum().backward()
    own.step()
    assert leaf.tolist() == [-2.5] * 3
    with pytest.raises(TypeError, match="__dlpack__"):
        optim.SGD([torch.ones(2, dtype=torch.bfloat16)], 0.1)


def test_jax_gradients_are_read_and_jax_parameters_refused():
    jnp = pytest.importorskip("jax.numpy")
    x = np.ones(3, np.float32)
    optim.SGD([x], 1.0).step([jnp.arange(3, dtype=jnp.float32)])
    assert x.tolist() == [1, 0, -1]
    with pytest.raises(ValueError, match=r"params\[0\]: expected a writable array"):
        optim.SGD([jnp.zeros(3)], 0.1)


def test_gradients_are_converted_and_never_changed():
    x = np.zeros((2, 3), np.float32)
    for grad in (
        np.ones((2, 3)),
        np.ones((3, 2), np.float32).T,
        np.ones((2, 3), ">f4"),
        np.ones((2, 3), np.int8),
        [[1, 1, 1], [True, 1.0, 1]],
        np.ones((2, 6), np.float16)[:, ::2],
    ):
        x[:] = 0
        before = np.array(grad)
        optim.Adam([x], 0.5).step([grad])
        assert np.allclose(x, -0.5)
        assert np.array_equal(np.array(grad), before)
    frozen = np.ones((2, 3), np.float32)
    frozen.flags.writeable = False
    optim.SGD([x], 0.5).step([frozen])


def test_parameters_bring_their_own_gradients():
    one, two = (placed(name, np.ones(3, np.float32)) for name in ("a.weight", "a.bias"))
    optimizer = optim.Adam([one, two], 0.1)
    with pytest.raises(RuntimeError, match=r"a\.weight has no gradient yet"):
        optimizer.step()
    for parameter in (one, two):
        parameter.grad[:] = 1
    optimizer.step()
    assert np.allclose(one.data, 0.9)
    assert list(optimizer.state_dict()["state"]) == ["a.weight", "a.bias"]
    one.data = np.full(3, 0.5)  # copied into place
    optimizer.step()
    assert np.allclose(one.data, 0.4)
    assert np.allclose(two.data, 0.8)


def test_parameters_of_one_name_are_told_apart():
    pair = [placed("0.weight", np.ones(2)) for _ in range(2)]
    assert len(optim.SGD(pair, 0.1, 0.9).state_dict()["state"]) == 2


def test_gradients_may_be_new_arrays_at_every_step_or_one_for_all():
    params = [np.zeros(5, np.float32) for _ in range(200)]
    optimizer = optim.SGD(params, 1.0)
    for _ in range(3):
        optimizer.step([np.ones(5, np.float32) for _ in params])
    optimizer.step([np.ones(5, np.float32)] * 200)
    assert (np.array(params) == -4).all()


def test_generators_tuples_and_a_single_group():
    x, y = np.zeros(2), np.zeros(2)
    optimizer = optim.SGD((p for p in (x, y)), 1.0)
    optimizer.step(g for g in (np.ones(2), np.ones(2)))
    optimizer.step((np.ones(2), np.ones(2)))
    assert y.tolist() == [-2, -2]


# Refusals --------------------------------------------------------------------------------------


def read_only():
    x = np.zeros(3)
    x.flags.writeable = False
    return x


BAD_TARGETS = [
    (lambda: [np.zeros(3, np.int64)], TypeError, r"params\[0\].*float32 or float64, got int64"),
    (lambda: [np.zeros(3, np.float16)], TypeError, "got float16"),
    (lambda: [np.zeros(3, complex)], TypeError, "got complex128"),
    (lambda: [np.zeros(3), [1.0, 2.0]], TypeError, r"params\[1\]\[0\].*got float"),
    (lambda: [np.float64(3)], TypeError, "float64"),
    (lambda: [None], TypeError, "NoneType"),
    (lambda: [b"12345678"], TypeError, "uint8"),
    (lambda: [read_only()], ValueError, "writable"),
    (lambda: [np.zeros((4, 4))[:, ::2]], ValueError, "C-contiguous"),
    (lambda: [np.zeros((4, 3)).T], ValueError, "C-contiguous"),
    (lambda: [np.zeros(3, ">f8")], ValueError, "byte order"),
    (lambda: [unaligned((3,), "f8")], ValueError, "aligned"),
    (lambda: [np.zeros(3)] * 2, ValueError, r"params\[1\].*params\[0\]"),
    (lambda: [*np.split(np.zeros(6), 2), np.zeros(6)], None, ""),
    (lambda: np.zeros(3), TypeError, "params: expected a list"),
    (lambda: {"params": [np.zeros(3)], "lr": 0.1}, TypeError, "^lr: .*got float"),
    (list, ValueError, "at least one"),
    (lambda: [{"params": [np.zeros(3)], "speed": 1}], ValueError, "speed"),
    (lambda: [{"params": [np.zeros(3)]}, np.zeros(3)], TypeError, "'params'"),
]


@pytest.mark.parametrize(("make", "error", "message"), BAD_TARGETS)
def test_bad_targets(make, error, message):
    if error is None:
        optim.SGD(make(), 0.1)
    else:
        with pytest.raises(error, match=message):
            optim.SGD(make(), 0.1)


def test_overlapping_parameters():
    x = np.zeros(10)
    with pytest.raises(ValueError, match="memory of its own"):
        optim.SGD([x[:6], x[5:]], 0.1)
    optim.SGD([x[5:], x[:5], x[5:5]], 0.1)


BAD_HYPER = [
    (optim.SGD, {"lr": -1}),
    (optim.SGD, {"lr": float("nan")}),
    (optim.SGD, {"lr": float("inf")}),
    (optim.SGD, {"lr": 0.1, "momentum": -0.1}),
    (optim.SGD, {"lr": 0.1, "momentum": 1.5}),
    (optim.SGD, {"lr": 0.1, "nesterov": True}),
    (optim.SGD, {"lr": 0.1, "nesterov": True, "momentum": 0.9, "dampening": 0.1}),
    (optim.SGD, {"lr": 0.1, "weight_decay": float("nan")}),
    (optim.SGD, {"lr": 0.1, "clip_norm": 0}),
    (optim.SGD, {"lr": 0.1, "clip_norm": float("nan")}),
    (optim.NAG, {"lr": 0.1, "momentum": float("nan")}),
    (optim.Adam, {"eps": 0}),
    (optim.Adam, {"eps": float("nan")}),
    (optim.Adam, {"betas": (1.0, 0.9)}),
    (optim.Adam, {"betas": (0.9, -0.1)}),
    (optim.Adam, {"betas": (0.9, float("nan"))}),
    (optim.AdamW, {"weight_decay": -1}),
    (optim.LAMB, {"eps": -1e-6}),
    (optim.Adagrad, {"lr_decay": -1}),
    (optim.Adagrad, {"initial_accumulator_value": -1}),
    (optim.RMSprop, {"alpha": 1.0}),
    (optim.RMSprop, {"alpha": -0.1}),
]


@pytest.mark.parametrize(("rule", "kwargs"), BAD_HYPER)
def test_hyper_parameters_out_of_range(rule, kwargs):
    x = np.zeros(3)
    with pytest.raises(ValueError, match="expected"):
        rule([x], **kwargs)
    if "clip_norm" not in kwargs:
        with pytest.raises(ValueError, match="expected"):
            rule([{"params": [x], **kwargs}], lr=0.1)


@pytest.mark.parametrize(
    "kwargs",
    [
        {"lr": "0.1"},
        {"lr": None},
        {"lr": True},
        {"lr": 0.1, "momentum": [0.9]},
        {"lr": 0.1, "nesterov": 1},
        {"lr": 0.1, "maximize": None},
        {"lr": 0.1, "clip_norm": "1"},
    ],
)
def test_hyper_parameters_of_a_wrong_kind(kwargs):
    with pytest.raises(TypeError, match="expected"):
        optim.SGD([np.zeros(3)], **kwargs)
    with pytest.raises(TypeError, match="betas"):
        optim.Adam([np.zeros(3)], betas=0.9)


def bad_steps():
    """What goes wrong at a step: a name, the change, the gradients, the error, its message."""
    ones = [np.ones(3), np.ones((2, 2), np.float32)]

    def steal(which):
        return lambda o, p: [which(o, p), ones[1]]

    yield "few", None, lambda o, p: ones[:1], ValueError, "expected 2 arrays"
    yield "many", None, lambda o, p: ones * 2, ValueError, "expected 2 arrays"
    yield "none", None, lambda o, p: None, TypeError, "grads"
    yield "number", None, lambda o, p: [ones[0], 3], ValueError, r"params\[1\].*shape \(2, 2\)"
    yield "shape", None, lambda o, p: [ones[0], np.ones(4)], ValueError, r"\(2, 2\), got \(4,\)"
    yield "broadcast", None, lambda o, p: [np.ones(1), ones[1]], ValueError, r"got \(1,\)"
    yield "complex", None, lambda o, p: [np.ones(3) * 1j, ones[1]], TypeError, "real"
    yield "object", None, lambda o, p: [np.array([None] * 3), ones[1]], TypeError, "real"
    yield "text", None, lambda o, p: ["abc", ones[1]], TypeError, "real"
    yield "ragged", None, lambda o, p: [[1, [2]], ones[1]], TypeError, "params"
    yield "a parameter", None, steal(lambda o, p: p[0]), ValueError, "memory of its own"
    yield "part of it", None, steal(lambda o, p: p[0].base[1:4]), ValueError, "memory of its own"
    yield "a state", None, steal(lambda o, p: o.state[0]["exp_avg"]), ValueError, "own"
    yield "read-only", lambda o, p: p[1].setflags(write=False), lambda o, p: ones, ValueError, "wri"
    yield "reshaped", lambda o, p: setattr(p[1], "shape", (4,)), lambda o, p: ones, ValueError, "as"
    yield "rate", lambda o, p: o.groups[0].update(lr=np.nan), lambda o, p: ones, ValueError, "lr"
    yield "eps", lambda o, p: o.groups[0].update(eps=0), lambda o, p: ones, ValueError, "eps"
    schedule = {"lr": lambda t: float("nan")}
    yield "nan", lambda o, p: o.groups[0].update(schedule), lambda o, p: ones, ValueError, "step 1"
    negative = {"lr": lambda t: -1.0}
    yield "neg", lambda o, p: o.groups[0].update(negative), lambda o, p: ones, ValueError, "lr"
    text = {"lr": lambda t: "0.1"}
    yield "word", lambda o, p: o.groups[0].update(text), lambda o, p: ones, TypeError, "lr"
    nan = [ones[0], np.full((2, 2), np.nan, np.float32)]
    yield "finite", None, lambda o, p: nan, ValueError, r"params\[1\].*finite"


STEPS = list(bad_steps())


@pytest.mark.filterwarnings("ignore:Setting the shape:DeprecationWarning")
@pytest.mark.parametrize(
    ("change", "grads", "error", "message"),
    [case[1:] for case in STEPS],
    ids=[case[0] for case in STEPS],
)
def test_a_refused_step_changes_nothing(change, grads, error, message):
    params = [np.arange(5.0)[:3], np.ones((2, 2), np.float32)]
    optimizer = optim.Adam(params, 0.1, check_finite=True)
    optimizer.step([np.ones(3), np.ones((2, 2))])
    if change:
        change(optimizer, params)
    before = [p.tobytes() for p in params]
    states = [{k: v.tobytes() for k, v in s.items()} for s in optimizer.state]
    with pytest.raises(error, match=message):
        optimizer.step(grads(optimizer, params))
    assert [p.tobytes() for p in params] == before
    assert [{k: v.tobytes() for k, v in s.items()} for s in optimizer.state] == states
    assert optimizer.t == 1


def test_a_step_after_a_refused_one():
    params = [np.zeros(3), np.zeros(2)]
    optimizer = optim.SGD(params, 1.0)
    grads = [np.ones(3), params[1]]
    for _ in range(2):
        with pytest.raises(ValueError, match="memory of its own"):
            optimizer.step(grads)
    optimizer.step([np.ones(3), np.ones(2)])
    assert params[1].tolist() == [-1, -1]
    assert optimizer.t == 1


def test_a_resized_parameter_is_refused():
    x = np.zeros(3)
    optimizer = optim.SGD([x], 0.1)
    x.resize((100,), refcheck=False)
    with pytest.raises(ValueError, match=r"\(3,\), as when the optimizer was made, got.*\(100,\)"):
        optimizer.step([np.ones(3)])
    assert not x.any()


def test_nan_propagates_without_check_finite():
    x, y = np.zeros(3), np.zeros(3)
    optim.Adam([x, y], 0.1).step([[0, np.nan, 1], [1, 1, 1]])
    assert np.isnan(x).tolist() == [False, True, False]
    assert not np.isnan(y).any()


def test_check_finite_accepts_what_is_finite():
    x, huge = np.zeros(1000), np.full(1000, 1e300)  # whose squares overflow
    optim.SGD([x], 1.0, check_finite=True).step([huge])
    assert (x == -1e300).all()


def test_steps_from_several_threads_are_all_counted():
    x = np.zeros(100_000, np.float32)
    optimizer = optim.SGD([x], 1.0)
    grad = np.ones_like(x)
    threads = [
        threading.Thread(target=lambda: [optimizer.step([grad]) for _ in range(25)])
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert optimizer.t == 100
    assert (x == -100).all()


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda x, g: ops.sgd_step([1.0], g, lr=0.1), TypeError),
        (lambda x, g: ops.sgd_step(x, g[:2], lr=0.1), ValueError),
        (lambda x, g: ops.sgd_step(x, g, x, lr=0.1, momentum=0.9), ValueError),
        (lambda x, g: ops.sgd_step(x, g, g, lr=0.1, momentum=0.9), ValueError),
        (lambda x, g: ops.sgd_step(x, x, lr=0.1), ValueError),
        (lambda x, g: ops.sgd_step(x, g, lr=0.1, momentum=0.9), ValueError),
        (lambda x, g: ops.sgd_step(x, g, lr=-1), ValueError),
        (lambda x, g: ops.adam_step(x, g, np.zeros(3, "f4"), np.zeros(3), step=1), ValueError),
        (lambda x, g: ops.adam_step(x, g, np.zeros(3), np.zeros(3), step=0), ValueError),
        (lambda x, g: ops.adam_step(x, g, np.zeros(3), np.zeros(3), step=1.5), TypeError),
        (lambda x, g: ops.rmsprop_step(x, g, np.zeros(3), momentum=0.1), ValueError),
        (lambda x, g: ops.clip_grad_norm([x[::2]], 1.0), ValueError),
        (lambda x, g: ops.clip_grad_norm([x, x], 1.0), ValueError),
        (lambda x, g: ops.clip_grad_norm([x], -1.0), ValueError),
    ],
)
def test_ops_refuse_before_they_write(call, error):
    x, g = np.arange(3.0), np.ones(3)
    with pytest.raises(error, match="expected"):
        call(x, g)
    assert x.tolist() == [0, 1, 2]
    assert g.tolist() == [1, 1, 1]


def test_as_target_and_as_input_share_memory():
    x = np.zeros((2, 3), np.float32)
    assert as_target(x, "x") is x
    assert as_input(x, "x") is x
    assert np.shares_memory(as_target(memoryview(x), "x"), x)
    assert as_input([1, 2], "x").dtype == np.float64
    assert as_input(np.ones(2, np.float16), "x").dtype == np.float64
    assert as_input(np.ones(2, ">f4"), "x").dtype == np.dtype("=f4")
    assert as_input(x.T, "x").flags.c_contiguous
    assert as_input(x, "x", np.dtype(np.float64)).dtype == np.float64
    with pytest.raises(TypeError, match="x: expected"):
        as_input("text", "x")
