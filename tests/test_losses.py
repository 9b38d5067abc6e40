"""Losses: values, gradients, weights, options and errors."""

import math
from functools import partial
from inspect import cleandoc
from types import SimpleNamespace

import numpy as np
import pytest

from fastnn import losses
from fastnn.losses.targets import check_labels

from .conftest import differences
from .kernels.loss import LOSSES
from .kernels.table import Draw

SHAPES = [(5,), (4, 1), (4, 3), (3, 17), (2, 3, 5), (3, 6), (2, 2, 12)]

# The table's losses with each of their options.
CASES = [(loss, options) for loss in LOSSES for options in loss.options]
every_loss = pytest.mark.parametrize(
    ("case", "options"), CASES, ids=["-".join([loss.kernel, *options]) for loss, options in CASES]
)


def problem(case, options, shape, rng, dtype="float64"):
    """The function with its options, predictions and target."""
    draw = Draw(rng, np.dtype(dtype))
    options = dict(options)
    if "class_weight" in options:
        options["class_weight"] = rng.uniform(0.5, 2, shape[-1])
    target = case.draw_target(draw, *shape)
    if options.get("ignore_index", 0) < 0:
        target.flat[::2] = options["ignore_index"]
    return partial(getattr(losses, case.name), **options), draw.normal(*shape, scale=2), target


def fits(case, shape):
    if len(shape) == 1:
        return not case.has_classes and case.per_output == 1
    return shape[-1] % case.per_output == 0


@every_loss
@pytest.mark.parametrize("reduction", ["mean", "sum", "batch"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_gradient(case, options, shape, weighted, reduction, rng):
    if not fits(case, shape):
        return
    function, pred, target = problem(case, options, shape, rng)
    weight = rng.uniform(0.5, 2, shape[0]) if weighted else None

    def value():
        return function(pred, target, sample_weight=weight, reduction=reduction)[0]

    loss, gradient = function(pred, target, sample_weight=weight, reduction=reduction)
    assert type(loss) is float
    assert (gradient.shape, gradient.dtype) == (pred.shape, pred.dtype)
    if math.isnan(loss):  # every label is ignored
        np.testing.assert_array_equal(gradient, 0)
        return
    assert gradient == pytest.approx(differences(value, pred), rel=1e-5, abs=1e-7)


@every_loss
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("shape", SHAPES)
def test_torch_agrees(case, options, shape, reduction, rng, dtype):
    torch = pytest.importorskip("torch")
    if not fits(case, shape):
        return
    function, pred, target = problem(case, options, shape, rng, dtype)
    functional = torch.nn.functional
    leaf, other = torch.tensor(pred, requires_grad=True), torch.tensor(target)
    options = {key: value for key, value in function.keywords.items() if value is not None}
    if case.has_classes:
        if "class_weight" in options:
            options["weight"] = torch.tensor(options.pop("class_weight").astype(dtype))
        classes_second = torch.movedim(leaf, -1, 1)
        other = other if case.target == "labels" else torch.movedim(other, -1, 1)
        want = functional.cross_entropy(classes_second, other, reduction=reduction, **options)
    elif case.name == "gaussian_nll":
        mean, log = leaf.chunk(2, -1)
        want = functional.gaussian_nll_loss(
            mean, other, log.exp(), eps=1e-12, reduction=reduction
        )
    elif case.name == "quantile":
        levels = torch.tensor(options["quantiles"], dtype=leaf.dtype)
        error = other[..., None] - leaf.reshape(*other.shape, -1)
        want = getattr(torch.maximum(levels * error, (levels - 1) * error), reduction)()
    else:
        twin = getattr(functional, f"{case.name}_loss", None) or getattr(functional, case.name)
        want = twin(leaf, other, reduction=reduction, **options)
    want.backward()
    loss, gradient = function(pred, target, reduction=reduction)
    close = {"rtol": 1e-5, "atol": 1e-6} if dtype == np.float32 else {"rtol": 1e-12, "atol": 1e-13}
    np.testing.assert_allclose(loss, want.item(), **close)
    np.testing.assert_allclose(gradient, leaf.grad.numpy(), **close)


ELEMENTWISE = [case for case in CASES if not case[0].has_classes]
elementwise = pytest.mark.parametrize(
    ("case", "options"), ELEMENTWISE, ids=[loss.kernel for loss, _ in ELEMENTWISE]
)


@elementwise
@pytest.mark.parametrize("reduction", ["mean", "sum", "batch"])
@pytest.mark.parametrize("shape", [(5,), (4, 6), (3, 1), (2, 3, 6)])
def test_weights_of_elements(case, options, shape, reduction, rng):
    """Each is the sum over elements that are alone, by their weight; samples' weights multiply."""
    if not fits(case, shape):
        return
    function, pred, target = problem(case, options, shape, rng)
    weight, of_samples = rng.uniform(0, 2, target.shape), rng.uniform(0.5, 2, len(pred))
    weight.flat[::3] = 0
    given = function(
        pred, target, element_weight=weight, sample_weight=of_samples, reduction=reduction
    )
    w = weight * of_samples.reshape(-1, *(1,) * (target.ndim - 1))
    value, gradient = 0.0, np.zeros(pred.shape)
    for place in np.ndindex(target.shape):
        alone = np.zeros(target.shape)
        alone[place] = w[place]
        one, slope = function(pred, target, element_weight=alone, reduction="sum")
        value, gradient = value + one, gradient + slope
    divisor = {"sum": 1, "batch": len(pred), "mean": w.sum()}[reduction]
    divisor *= len(options.get("quantiles", [0])) if reduction == "mean" else 1
    assert given[0] == pytest.approx(value / divisor, rel=1e-12)
    np.testing.assert_allclose(given[1], gradient / divisor, rtol=1e-12, atol=1e-15)
    plain = function(pred, target, reduction=reduction)
    ones = function(pred, target, element_weight=np.ones(target.shape), reduction=reduction)
    assert ones[0] == pytest.approx(plain[0], rel=1e-12)
    np.testing.assert_allclose(ones[1], plain[1], rtol=1e-12)


@every_loss
@pytest.mark.parametrize("shape", [(3, 6), (2, 2, 6)])
def test_the_batch_reduction_is_the_sum_over_the_batch_size(case, options, shape, rng):
    function, pred, target = problem(case, options, shape, rng)
    weight = rng.normal(size=len(pred))
    for w in (None, weight):
        total, slope = function(pred, target, sample_weight=w, reduction="sum")
        loss, gradient = function(pred, target, sample_weight=w, reduction="batch")
        assert loss == pytest.approx(total / len(pred), rel=1e-12)
        np.testing.assert_allclose(gradient, slope / len(pred), rtol=1e-12, atol=1e-300)


@every_loss
def test_negative_weights_have_no_mean(case, options, rng):
    function, pred, target = problem(case, options, (4, 6), rng)
    weight = rng.normal(size=4)
    weight -= weight.mean()
    with pytest.raises(ValueError, match=r'sample_weight: .*"sum" or "batch"'):
        function(pred, target, sample_weight=weight)
    if not case.has_classes:
        with pytest.raises(ValueError, match=r'element_weight: .*"sum" or "batch"'):
            function(pred, target, element_weight=-np.ones(target.shape))
        with pytest.raises(ValueError, match=r"element_weight: expected shape"):
            function(pred, target, element_weight=np.ones((4, 1)))
    assert math.isfinite(function(pred, target, sample_weight=weight, reduction="sum")[0])


@every_loss
def test_weights_whose_sum_has_no_inverse_are_weights_of_zero(case, options, rng, dtype):
    function, pred, target = problem(case, options, (4, 6), rng, dtype)
    tiny = np.full(4, np.finfo(dtype).tiny / 64)
    loss, gradient = function(pred, target, sample_weight=tiny)
    assert math.isnan(loss)
    np.testing.assert_array_equal(gradient, 0)


@every_loss
def test_options_alone_make_a_loss(case, options, rng):
    function, pred, target = problem(case, options, (4, 6), rng)
    loss = function(reduction="sum")
    assert losses.resolve(loss) is loss
    assert loss(pred, target)[0] == function(pred, target, reduction="sum")[0]
    assert repr(loss).startswith(f"{case.name}(")
    assert "reduction='sum'" in repr(loss)
    for name in function.keywords:
        assert f"{name}=" in repr(loss)
    with pytest.raises(AttributeError, match=rf"reduction: .*losses.{case.name}\("):
        loss.reduction = "mean"
    with pytest.raises(AttributeError, match="alpha: "):
        loss.alpha = 1
    with pytest.raises(TypeError, match=r"sample_weight: .*Trainer"):
        function(sample_weight=np.ones(3))


@pytest.mark.parametrize(
    ("quantiles", "error"),
    [(None, TypeError), (["a"], TypeError), ([], ValueError), ([0.5, 1.0], ValueError),
     ([0.0], ValueError), ("abc", TypeError)],
)
def test_quantiles_are_checked(quantiles, error):
    with pytest.raises(error, match="quantiles"):
        losses.quantile(np.ones((2, 2)), np.ones((2, 1)), quantiles)


def test_predictions_must_hold_what_the_loss_reads():
    with pytest.raises(ValueError, match="a multiple of 3"):
        losses.quantile(np.ones((2, 4)), np.ones((2, 1)), [0.1, 0.5, 0.9])
    with pytest.raises(ValueError, match="a multiple of 2"):
        losses.gaussian_nll(np.ones((2, 3)), np.ones((2, 1)))
    with pytest.raises(ValueError, match=r"pred: expected shape \(batch, ..., moments\)"):
        losses.gaussian_nll(np.ones(2), np.ones(1))
    with pytest.raises(ValueError, match="element_weight: expected None for cross_entropy"):
        losses.resolve("cross_entropy")(np.ones((2, 3)), [0, 1], None, np.ones(2))


def test_one_hot_labels_must_be_floats():
    with pytest.raises(ValueError, match=r"argmax\(-1\)"):
        losses.cross_entropy(np.ones((2, 3)), np.eye(3, dtype=int)[:2])


@every_loss
def test_sample_weight_repeats_samples(case, options, rng):
    """A weight of 2 counts a sample twice, and a weight of 0 leaves it out."""
    for shape in ((4, 6), (4, 2, 6)):
        function, pred, target = problem(case, options, shape, rng)
        loss, gradient = function(pred, target, sample_weight=[2, 0, 1, 1])
        chosen = [0, 0, 2, 3]
        want, rows = function(pred[chosen], target[chosen])
        assert loss == pytest.approx(want, nan_ok=True)
        np.testing.assert_allclose(gradient[0], rows[0] + rows[1], atol=1e-15)
        np.testing.assert_array_equal(gradient[1], 0)
        np.testing.assert_allclose(gradient[2:], rows[2:], atol=1e-15)


@every_loss
@pytest.mark.parametrize("shape", [(0,), (0, 6), (0, 2, 6)])
def test_empty_batch(case, options, shape, rng):
    if not fits(case, shape):
        return
    function, pred, target = problem(case, options, shape, rng)
    loss, gradient = function(pred, target)
    assert math.isnan(loss)
    assert gradient.shape == shape
    assert function(pred, target, reduction="sum")[0] == 0
    assert math.isnan(function(pred, target, sample_weight=np.zeros(0))[0])


@every_loss
def test_weights_of_zero(case, options, rng):
    function, pred, target = problem(case, options, (4, 6), rng)
    loss, gradient = function(pred, target, sample_weight=np.zeros(4))
    assert math.isnan(loss)
    np.testing.assert_array_equal(gradient, 0)


def test_ignored_labels_only():
    loss, gradient = losses.cross_entropy(np.ones((2, 3)), [7, 7], ignore_index=7)
    assert math.isnan(loss)
    np.testing.assert_array_equal(gradient, 0)


@every_loss
def test_inputs(case, options, rng, dtype):
    """Left alone, converted to the predictions' dtype, and read-only arrays will do."""
    function, pred, target = problem(case, options, (4, 6), rng, dtype)
    weight = rng.uniform(0.5, 2, 4).astype(dtype)
    want, gradient = function(pred, target, sample_weight=weight)
    for array in (pred, target, weight):
        array.setflags(write=False)
    others = [
        (pred, target, weight),
        (np.asfortranarray(pred), np.asfortranarray(target), weight[::-1].copy()[::-1]),
        (pred.astype(pred.dtype.newbyteorder()), target.astype(target.dtype.newbyteorder()),
         weight.astype(weight.dtype.newbyteorder())),
        (memoryview(pred), memoryview(target), memoryview(weight)),
        (pred, target.tolist(), weight.tolist()),
    ]  # fmt: skip
    for p, t, w in others:
        loss, slope = function(p, t, sample_weight=w)
        assert loss == want
        assert slope.dtype == dtype
        np.testing.assert_array_equal(slope, gradient)


def test_extreme_logits():
    x = np.array([[1e4, -1e4], [-np.inf, 0.0]])
    loss, gradient = losses.cross_entropy(x, [0, 1])
    assert loss == 0
    np.testing.assert_array_equal(gradient, 0)
    loss, gradient = losses.cross_entropy(x[:1], [1])
    assert loss == 2e4
    np.testing.assert_array_equal(gradient, [[1, -1]])
    loss, gradient = losses.binary_cross_entropy_with_logits([1e4, -1e4], [0.0, 1.0])
    assert loss == 1e4
    np.testing.assert_array_equal(gradient, [0.5, -0.5])


# Labels ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["b", "B", "h", "H", "i", "I", "l", "L", "?", ">i4"])
def test_label_dtypes(kind):
    labels = check_labels(np.array([0, 1, 1], kind), 2)
    assert labels.dtype == np.int64
    assert labels.flags.c_contiguous
    assert labels.tolist() == [0, 1, 1]


def test_labels_are_not_copied_without_need():
    labels = np.array([0, 1])
    assert check_labels(labels, 2) is labels
    assert check_labels(np.zeros(0, int), 0).size == 0
    strided = np.zeros((4, 2), int)[:, 0]
    assert check_labels(strided, 1).flags.c_contiguous


@pytest.mark.parametrize(
    ("labels", "options", "error", "message"),
    [
        ([0.0, 1.0], {}, TypeError, "expected integers, got dtype float64"),
        (["a", "b"], {}, TypeError, "expected integers, got list"),
        ([0, 3], {}, ValueError, r"expected integers in \[0, 3\), got 3"),
        ([0, -1], {}, ValueError, r"expected integers in \[0, 3\), got -1"),
        ([-1, 5], {"ignore_index": -1}, ValueError, r"expected .*\), got 5"),
        (np.array([0, 2**63], np.uint64), {}, ValueError, r"expected integers in \[0, 3\)"),
        ([0, 1], {"shape": (3,)}, ValueError, r"expected shape \(3,\) for integers, got \(2,\)"),
    ],
)
def test_wrong_labels(labels, options, error, message):
    with pytest.raises(error, match=f"^labels: {message}"):
        check_labels(labels, 3, **options)


def test_ignore_index_inside_and_outside():
    for index in (0, 2, -100, 10**6):
        labels = check_labels([1, index, 1], 3, ignore_index=index)
        assert labels.tolist() == [1, index, 1]


# Options ---------------------------------------------------------------------------------------

P = np.zeros((4, 3), np.float32)
Y = np.zeros(4, np.int64)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: losses.mse("a", P), TypeError, "pred: expected real numbers"),
        (lambda: losses.mse(1.0, 1.0), ValueError, r"pred: expected shape \(batch, ...\), got"),
        (lambda: losses.mse(P, P[:, 0]), ValueError, r"target: expected shape \(4, 3\) for these"),
        (lambda: losses.mse(P, P[:1]), ValueError, "target: expected shape"),
        (lambda: losses.mse(P, None), TypeError, "target: expected real numbers"),
        (lambda: losses.mse(P, P, reduction="none"), ValueError, "reduction: expected 'mean'"),
        (lambda: losses.mse(P, P, sample_weight=P), ValueError, r"sample_weight: .*\(4,\), one"),
        (lambda: losses.mse(P, P, sample_weight="w"), TypeError, "sample_weight: expected"),
        (lambda: losses.huber(P, P, delta=0), ValueError, "delta: expected a finite number > 0"),
        (lambda: losses.huber(P, P, delta=-1), ValueError, "delta: expected"),
        (lambda: losses.huber(P, P, delta=np.nan), ValueError, "delta: expected"),
        (lambda: losses.huber(P, P, delta="1"), TypeError, "delta: expected a number"),
        (lambda: losses.cross_entropy(P[0], 0), ValueError, r"logits: .*\(batch, ..., classes\)"),
        (lambda: losses.cross_entropy(P, Y + 3), ValueError, r"labels: .* in \[0, 3\), got 3"),
        (lambda: losses.cross_entropy(P, Y + 0.0), TypeError, "labels: expected integers"),
        (lambda: losses.cross_entropy(P, P.astype(int)), ValueError, r"labels: .*\(4,\) for int"),
        (lambda: losses.cross_entropy(P, P.T), ValueError, r"labels: expected shape \(4, 3\)"),
        (lambda: losses.cross_entropy(P, P, ignore_index=1), ValueError, "ignore_index: expected"),
        (lambda: losses.cross_entropy(P, Y, ignore_index=1.0), TypeError, "ignore_index: expected"),
        (lambda: losses.cross_entropy(P, Y, 1.5), ValueError, r"label_smoothing: .*\[0, 1\]"),
        (lambda: losses.cross_entropy(P, Y, class_weight=[1.0]), ValueError, "class_weight: .*3,"),
        (lambda: losses.cross_entropy(P, Y, class_weight="balanced"), TypeError, "class_weight: "),
        (lambda: losses.binary_cross_entropy_with_logits(P, Y), ValueError, "target: expected"),
        (lambda: losses.resolve("cube"), ValueError, "loss: expected one of mse, l1, huber"),
        (lambda: losses.resolve(3), TypeError, "loss: expected a name or a callable, got int"),
        (lambda: losses.resolve(partial(losses.mse, delta=1)), TypeError, ".*argument 'delta'"),
        (lambda: losses.resolve(partial(losses.huber, delta=-1)), ValueError, "delta: expected"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=f"^{message}"):
        call()


def test_resolve():
    for name in dict.fromkeys(case.name for case in LOSSES):
        if name == "quantile":
            with pytest.raises(TypeError, match="quantiles: expected"):
                losses.resolve(name)
            continue
        loss = losses.resolve(name)
        assert (loss.name, loss.kernel) == (name, f"{name}_loss")
        assert losses.resolve(getattr(losses, name)).name == name
        assert losses.resolve(loss) is loss
    assert losses.resolve(partial(losses.huber, delta=3)).scalars == (3.0,)
    options = {"label_smoothing": 0.1, "ignore_index": 2, "reduction": "sum"}
    loss = losses.resolve(partial(losses.cross_entropy, **options))
    assert (loss.scalars, loss.ignore_index, loss.reduction) == ((0.1,), 2, "sum")
    own = partial(lambda pred, target, k: (0.0, pred), k=1)
    assert losses.resolve(own) is own
    assert losses.resolve(max) is max


@every_loss
def test_resolved_loss_is_the_function(case, options, rng):
    function, pred, target = problem(case, options, (4, 6), rng)
    want, gradient = function(pred, target)
    loss, slope = losses.resolve(function)(pred, target)
    assert loss == pytest.approx(want, rel=0, nan_ok=True)
    np.testing.assert_array_equal(slope, gradient)


def test_every_public_function_is_described():
    for name in losses.__all__:
        doc = cleandoc(getattr(losses, name).__doc__)
        if name != "Loss":
            assert "\nRaises\n---" in doc, name


# The penalty on the weights --------------------------------------------------------------------


def parameter(data, grad):
    return SimpleNamespace(data=np.array(data, "float32"), grad=np.array(grad, "float32"))


def test_l2_penalty():
    weights = [parameter([[1, 2]], [[0, 1]]), parameter([3], [5])]
    assert losses.l2_penalty(weights, 0.5) == pytest.approx(0.25 * 14)
    np.testing.assert_array_equal(weights[0].grad, [[0.5, 2]])
    np.testing.assert_array_equal(weights[1].grad, [6.5])
    np.testing.assert_array_equal(weights[0].data, [[1, 2]])
    assert losses.l2_penalty(weights, 0) == 0
    assert losses.l2_penalty([], 1) == 0


@pytest.mark.parametrize(
    ("bad", "lam", "error", "message"),
    [
        (parameter([1], [1]), -1, ValueError, "lam: expected"),
        (parameter([1], [1]), "a", TypeError, "lam: expected a number"),
        (parameter([1], [1, 2]), 1, ValueError, r"parameters\[1\].grad: expected shape \(1,\)"),
        (np.ones(2), 1, TypeError, r"parameters\[1\]: expected a Parameter"),
        (SimpleNamespace(data=np.ones(1), grad=None), 1, RuntimeError, r"parameters\[1\] has no"),
        (SimpleNamespace(data=np.ones(1), grad=np.ones(1, int)), 1, TypeError, r"parameters\[1\]"),
    ],
)
def test_l2_penalty_errors(bad, lam, error, message):
    good = parameter([1, 2], [3, 4])
    with pytest.raises(error, match=f"^{message}"):
        losses.l2_penalty([good, bad], lam)
    np.testing.assert_array_equal(good.grad, [3, 4])
