"""Models from and to PyTorch, and the optimizers in the shape of its own."""

import copy
import inspect
import pickle
import sys
from collections import OrderedDict
from functools import partial

import numpy as np
import pytest

import fastnn
import fastnn.torch
from fastnn import layers, optim

from .layer_table import LAYERS, inputs
from .optimizers import RULES

torch = pytest.importorskip("torch")
nn = torch.nn


def output(module, x):
    with torch.no_grad():
        y = module.eval()(torch.from_numpy(np.asarray(x)))
    return (y[0] if isinstance(y, tuple) else y).numpy()


def randomize(module, dtype=None):
    generator = torch.Generator().manual_seed(0)
    for tensor in module.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand(tensor.shape, generator=generator, dtype=tensor.dtype) + 0.1)
    return module if dtype is None else module.to(getattr(torch, str(dtype)))


def assert_same(model, module, shape, dtype="float32"):
    """The same output, the same keys and values."""
    x = inputs(model, shape, dtype)
    y = model(x)
    tolerance = 1e-12 if y.dtype == np.float64 else 2e-6
    np.testing.assert_allclose(output(module, x), y, rtol=tolerance, atol=tolerance)
    ours = model.state_dict()
    theirs = {key: t.numpy() for key, t in module.state_dict().items()
              if not key.endswith("num_batches_tracked")}  # fmt: skip
    assert list(ours) == list(theirs)
    for key, values in ours.items():
        np.testing.assert_array_equal(theirs[key], values, strict=True)


# Modules ---------------------------------------------------------------------------------------


def test_every_layer_is_a_module():
    from fastnn.torch.modules import KINDS

    built_in = {getattr(layers, name) for name in layers.__all__}
    assert {kind.ours for kind in KINDS} == built_in - {fastnn.Layer, fastnn.Parameter}


@pytest.mark.parametrize(("make", "shape"), LAYERS, ids=[repr(make()) for make, _ in LAYERS])
def test_every_layer_goes_there_and_back(make, shape, dtype):
    model = fastnn.Sequential(make(), dtype=dtype, rng=0)
    model.forward(inputs(model, shape, dtype), training=True)  # moves the statistics
    stream = torch.get_rng_state()
    module = fastnn.to_torch(model)
    assert torch.equal(torch.get_rng_state(), stream)
    assert module.training
    assert_same(model, module, shape, dtype)
    back = fastnn.from_torch(module)
    assert repr(back) == repr(model)
    assert back[0].config() == model[0].config()
    assert_same(back, module, shape, dtype)
    back.load_state_dict(module.state_dict())
    alone = fastnn.to_torch(model[0])
    np.testing.assert_array_equal(output(alone, inputs(model, shape, dtype)),
                                  output(module, inputs(model, shape, dtype)))


MODULES = {
    "plain": (lambda: nn.Sequential(nn.Linear(4, 3), nn.ReLU(inplace=True), nn.Linear(3, 2)), (4,)),
    "nested": (lambda: nn.Sequential(nn.Sequential(nn.Linear(4, 3), nn.Sequential(nn.Tanh())),
                                     nn.Identity(), nn.LayerNorm(3)), (4,)),
    "statistics": (lambda: nn.Sequential(nn.BatchNorm1d(4, 1e-3, 0.2), nn.Dropout(0.1)), (4,)),
    "sequences": (lambda: nn.Sequential(nn.Embedding(9, 4), nn.LSTM(4, 3, batch_first=True)), (5,)),
    "one": (lambda: nn.LSTM(4, 3, 2, batch_first=True, bidirectional=True), (5, 4)),
    "flat": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(6, 2), nn.LogSoftmax(-1)), (2, 3)),
}  # fmt: skip


@pytest.mark.parametrize("name", MODULES)
def test_modules_become_models(name, dtype):
    make, shape = MODULES[name]
    module = randomize(make(), dtype)
    assert_same(fastnn.from_torch(module), module, shape, dtype)


def test_names_of_modules_become_numbers():
    named = randomize(nn.Sequential(OrderedDict(layers=nn.Linear(3, 2), bias=nn.Tanh())))
    model = fastnn.from_torch(named)
    x = inputs(model, (3,))
    np.testing.assert_allclose(model(x), output(named, x), rtol=2e-6, atol=2e-6)


class Net(nn.Sequential):
    """A subclass that computes what its class does."""


def test_what_is_shared_and_frozen_stays_so():
    twice = nn.Linear(3, 3)
    inner = nn.Sequential(twice, nn.Linear(3, 3))
    module = Net(twice, inner, nn.Linear(3, 3), inner)
    module[2].weight = twice.weight
    randomize(module)
    inner[1].bias.requires_grad = False
    model = fastnn.from_torch(module)
    assert model[0] is model[1][0]
    assert model[1] is model[3]
    assert model[2].weight is model[0].weight
    assert [p.trainable for p in model.parameters()] == [p.requires_grad for p in
                                                         module.parameters()]
    assert_same(model, module, (3,))
    back = fastnn.to_torch(model)
    assert back[0] is back[1][0]
    assert back[1] is back[3]
    assert back[2].weight is back[0].weight
    assert_same(model, back, (3,))
    assert [p.requires_grad for p in back.parameters()] == [True, True, True, False, True]


def test_models_and_modules_train_alike():
    module = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.GELU(), nn.Linear(8, 3))
    randomize(module, "float64")
    model = fastnn.from_torch(module)
    x, y = inputs(model, (4,), "float64"), np.arange(6) % 3
    trainer = fastnn.Trainer(model, "cross_entropy", optim.Adam(model.parameters(), lr=0.1))
    theirs = torch.optim.Adam(module.train().parameters(), lr=0.1)
    for _ in range(5):
        trainer.step(x, y)
        theirs.zero_grad()
        nn.functional.cross_entropy(module(torch.from_numpy(x)), torch.from_numpy(y)).backward()
        theirs.step()
    for p, q in zip(model.parameters(), module.parameters(), strict=True):
        np.testing.assert_allclose(p.data, q.detach().numpy(), rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(model(x), output(module, x), rtol=1e-8, atol=1e-10)


class Twice(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


def hooked():
    module = nn.Linear(2, 2)
    module.register_forward_hook(lambda *_: None)
    return module


REFUSED = {
    "unknown": (lambda: nn.Conv1d(1, 2, 3), TypeError, r"module 1\.0: expected one of .*Conv1d"),
    "own forward": (lambda: Twice(2, 2), TypeError, "Twice"),
    "hooks": (hooked, TypeError, "with hooks"),
    "weight norm": (lambda: nn.utils.parametrizations.weight_norm(nn.Linear(2, 2)), Exception,
                    r"module 1\.0"),
    "axis": (lambda: nn.Softmax(1), ValueError,
             r"module 1\.0 \(Softmax\): dim: expected -1, got 1"),
    "time first": (lambda: nn.LSTM(2, 2), ValueError, "batch_first: expected True, got False"),
    "no bias": (lambda: nn.LSTM(2, 2, bias=False, batch_first=True), ValueError, "bias_hh_l0"),
    "projection": (lambda: nn.LSTM(2, 4, batch_first=True, proj_size=2), ValueError, "weight_hr"),
    "half affine": (lambda: nn.LayerNorm(3, bias=False), ValueError, r"\['bias', 'weight'\]"),
    "average": (lambda: nn.BatchNorm1d(3, momentum=None), TypeError, "momentum"),
    "no statistics": (lambda: nn.BatchNorm1d(3, track_running_stats=False), ValueError, "track"),
    "padding": (lambda: nn.Embedding(3, 2, padding_idx=0), ValueError, "padding_idx"),
    "flatten": (lambda: nn.Flatten(0), ValueError, "start_dim"),
    "softplus": (lambda: nn.Softplus(threshold=5), ValueError, "threshold"),
    "half": (lambda: nn.Linear(2, 2).half(), TypeError, r"float32 or float64.*module\.float\(\)"),
    "mixed": (lambda: nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2).double()), ValueError,
              "one dtype, got float32, float64"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_layer_is_named(name):
    make, error, message = REFUSED[name]
    with pytest.raises(error, match=message):
        fastnn.from_torch(nn.Sequential(nn.Tanh(), nn.Sequential(make())))


def test_other_things_are_refused():
    class Square(fastnn.Layer):
        pass

    with pytest.raises(TypeError, match=r"module: expected a torch\.nn\.Module, got"):
        fastnn.from_torch(fastnn.Linear(2, 2))
    with pytest.raises(TypeError, match="model: expected a fastnn layer"):
        fastnn.to_torch(nn.Linear(2, 2))
    with pytest.raises(TypeError, match=r"layer 1\.0: expected a built-in one, got .*Square"):
        fastnn.to_torch(fastnn.Sequential(fastnn.ReLU(), fastnn.Residual(Square())))


def test_without_pytorch_the_error_names_it(monkeypatch):
    for name in [n for n in sys.modules if n.startswith("fastnn.torch.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)
    for use in (lambda: fastnn.torch.Optimizer, lambda: fastnn.to_torch(fastnn.Linear(2, 2)),
                lambda: fastnn.from_torch(None)):  # fmt: skip
        with pytest.raises(ImportError, match="pip install torch"):
            use()


# Optimizers ------------------------------------------------------------------------------------

TORCH = [(rule, variant) for rule, variant in (
    ("Adam", {}), ("Adam", {"amsgrad": True, "weight_decay": 0.1}), ("AdamW", {}),
    ("SGD", {"lr": 0.1}), ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    ("Adagrad", {"lr_decay": 0.1}), ("RMSprop", {"momentum": 0.5, "centered": True}),
)]  # fmt: skip


def small():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 2)).double()


def train(module, optimizer, steps, without=(), schedule=None, seed=0):
    """Some steps; at those of `without` the first parameters have no gradient."""
    generator = torch.Generator().manual_seed(seed)
    for i in range(steps):
        optimizer.zero_grad()
        x = torch.randn(16, 5, generator=generator, dtype=torch.float64)
        (module(x) ** 2).sum().backward()
        for parameter in [*module.parameters()][: 2 * (i in without)]:
            parameter.grad = None
        optimizer.step()
        if schedule is not None:
            schedule.step()


def assert_alike(one, other):
    for p, q in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("without", [(), (0, 1, 4), (3,), range(9)])
@pytest.mark.parametrize(("name", "options"), TORCH)
def test_steps_are_those_of_pytorch(name, options, without):
    ours, theirs = small(), small()
    one = fastnn.torch.Optimizer(ours.parameters(), name.lower(), **options)
    other = getattr(torch.optim, name)(theirs.parameters(), **options)
    for module, optimizer in ((ours, one), (theirs, other)):
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)
        train(module, optimizer, 6, without, schedule)
    assert_alike(ours, theirs)
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        for key, values in other.state[q].items():
            if key != "step" or q.grad is not None:
                torch.testing.assert_close(one.state[p][key].to(values.dtype), values,
                                           rtol=1e-10, atol=1e-12)  # fmt: skip
    # goes on from the state of PyTorch's optimizer, from its own, and in copies
    one.load_state_dict(other.state_dict())
    again = fastnn.torch.Optimizer(ours.parameters(), name.lower(), **options)
    again.load_state_dict(one.state_dict())
    copies = [(ours, again), copy.deepcopy((ours, one)), pickle.loads(pickle.dumps((ours, one)))]
    train(theirs, other, 3, (1,), seed=1)
    for module, optimizer in copies:
        train(module, optimizer, 3, (1,), seed=1)
        assert_alike(module, theirs)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.optimizer.__name__)
def test_every_rule_has_a_kind(rule):
    module = small()
    given = inspect.signature(rule.optimizer).parameters
    required = {n: 0.1 for n, p in given.items() if p.default is p.empty and n != "params"}
    kind = rule.optimizer.__name__.lower()
    optimizer = fastnn.torch.Optimizer(module.parameters(), kind, **required)
    model = [p.detach().numpy().copy() for p in module.parameters()]
    twin = rule.optimizer(model, **required)
    for _ in range(3):
        optimizer.zero_grad()
        (module(torch.ones(3, 5, dtype=torch.float64)) ** 2).sum().backward()
        twin.step([p.grad.numpy() for p in module.parameters()])
        optimizer.step()
    for array, p in zip(model, module.parameters(), strict=True):
        np.testing.assert_array_equal(p.detach().numpy(), array)


def test_groups_and_closures():
    ours, theirs = small(), small()
    made = []
    for module, cls in ((ours, fastnn.torch.Optimizer), (theirs, torch.optim.Adam)):
        first, second, *others = module.parameters()
        optimizer = cls([{"params": [first], "lr": 0.1}, {"params": second}], lr=0.01)
        train(module, optimizer, 2)
        optimizer.add_param_group({"params": others, "betas": (0.5, 0.9)})
        train(module, optimizer, 2)
        optimizer.param_groups[0]["lr"] = 0.3
        train(module, optimizer, 2)
        made.append(optimizer)
    assert_alike(ours, theirs)

    def closure():
        loss = (ours[0].weight ** 2).sum()
        made[0].zero_grad()
        loss.backward()
        return loss

    assert made[0].step(closure).item() == pytest.approx((theirs[0].weight ** 2).sum().item())
    made[0].zero_grad()
    assert made[0].step() is None  # nothing has a gradient


def test_states_come_and_go_with_hyper_parameters():
    ours, theirs = small(), small()
    made = [fastnn.torch.Optimizer(ours.parameters(), "sgd", lr=0.1),
            torch.optim.SGD(theirs.parameters(), lr=0.1)]  # fmt: skip
    for module, optimizer in zip((ours, theirs), made, strict=True):
        train(module, optimizer, 2)
        optimizer.param_groups[0]["momentum"] = 0.9
        train(module, optimizer, 1)
        train(module, optimizer, 3, (1,))
    parameter = ours[0].weight
    assert torch.equal(made[0].state[parameter]["momentum_buffer"],
                       torch.from_numpy(made[0]._parts[0].optimizer.state[0]["momentum_buffer"]))


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
def test_states_in_fewer_bits_come_back_bit_for_bit(dtype):
    module = small()
    optimizer = fastnn.torch.Optimizer(module.parameters(), lr=0.1, state_dtype=dtype)
    train(module, optimizer, 3, (1,))
    other = copy.deepcopy(module)
    again = fastnn.torch.Optimizer(other.parameters(), lr=0.1, state_dtype=dtype)
    again.load_state_dict(optimizer.state_dict())
    for pair in ((module, optimizer), (other, again)):
        train(*pair, 3, seed=1)
    for p, q in zip(module.parameters(), other.parameters(), strict=True):
        assert torch.equal(p, q)
    plain = fastnn.torch.Optimizer(module.parameters(), lr=0.1)
    for one, two in ((plain, optimizer), (optimizer, plain)):
        with pytest.raises(ValueError, match="state_dict: exp_avg: expected states as"):
            one.load_state_dict(two.state_dict())


@pytest.mark.parametrize("without", [(), (1,)])
def test_elements_are_clipped(without):
    ours, theirs = small(), small()
    one = fastnn.torch.Optimizer(ours.parameters(), "sgd", lr=0.1, clip_value=0.1)
    other = torch.optim.SGD(theirs.parameters(), lr=0.1)
    other.register_step_pre_hook(
        lambda *_: nn.utils.clip_grad_value_(theirs.parameters(), 0.1) and None
    )
    for module, optimizer in ((ours, one), (theirs, other)):
        train(module, optimizer, 4, without)
    assert_alike(ours, theirs)


@pytest.mark.parametrize("without", [(), (1,)])
def test_clipping_is_over_all_parameters(without):
    ours, theirs = small(), small()
    one = fastnn.torch.Optimizer(ours.parameters(), "sgd", lr=0.1, clip_norm=0.5)
    other = torch.optim.SGD(theirs.parameters(), lr=0.1)
    other.register_step_pre_hook(
        lambda *_: nn.utils.clip_grad_norm_(theirs.parameters(), 0.5) and None
    )
    for module, optimizer in ((ours, one), (theirs, other)):
        train(module, optimizer, 4, without)
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("without", [(), (0,)])
def test_a_refused_step_changes_nothing(without):
    module = small()
    optimizer = fastnn.torch.Optimizer(module.parameters(), lr=0.1, check_finite=True)
    optimizer.add_param_group({"params": [extra := nn.Parameter(torch.ones(2))]})
    train(module, optimizer, 2, without)
    extra.grad = torch.ones(2)
    before = copy.deepcopy([*module.parameters(), extra, optimizer.state_dict()["state"]])

    def unchanged():
        after = [*module.parameters(), extra, optimizer.state_dict()["state"]]
        return str(after) == str(before)

    for wrong in ("gradient", "rate", "state"):
        if wrong == "gradient":
            extra.grad[1] = np.nan
        else:
            extra.grad[1] = 1
        optimizer.param_groups[1]["lr"] = -1.0 if wrong == "rate" else 0.1
        state = optimizer.state_dict()
        state["state"][4] = {"step": 3, "exp_avg": torch.ones(3)}
        call = partial(optimizer.load_state_dict, state) if wrong == "state" else optimizer.step
        with pytest.raises(ValueError, match="expected"):
            call()
        assert unchanged()
    optimizer.step()
    assert not unchanged()


def test_autograd_notices_a_step():
    p = nn.Parameter(torch.tensor([3.0, 1.0]))
    loss = (p**2).sum()
    p.grad = torch.ones(2)
    fastnn.torch.Optimizer([p], "sgd", lr=0.5).step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_wrong_arguments_are_named():
    p = nn.Parameter(torch.zeros(2))
    half = nn.Parameter(p.detach().half())
    for error, message, call in (
        (ValueError, "kind: .*did you mean 'adam'", lambda: fastnn.torch.Optimizer([p], "adan")),
        (TypeError, "'lr'", lambda: fastnn.torch.Optimizer([p], "sgd")),
        (TypeError, "'momentum'", lambda: fastnn.torch.Optimizer([p], momentum=0.9)),
        (ValueError, "lr: expected", lambda: fastnn.torch.Optimizer([p], lr=-1)),
        (ValueError, "lr: expected", lambda: fastnn.torch.Optimizer([{"params": [p], "lr": -1}])),
        (TypeError, "float32 or float64", lambda: fastnn.torch.Optimizer([half])),
    ):
        with pytest.raises(error, match=message):
            call()
