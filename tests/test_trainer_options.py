"""Options of the trainer: what may be assigned, weights, lengths, parts of the data, warnings."""

import copy
import inspect
import pickle
import warnings

import numpy as np
import pytest

import fastnn
from fastnn import losses, optim

from .trainer_cases import LABELS, W, X, Y, assert_same, make, mlp, state

# Attributes --------------------------------------------------------------------------------------

ASSIGNED = {
    "loss": ("huber", "nonsense"),
    "l2": (0.5, -1),
    "l2_on": ("all", "biases"),
    "clip_norm": (1e-3, 0),
    "clip_value": (1e-5, 0),
    "accumulate": (2, 0),
    "precision": ("bfloat16", "float16"),
    "optimizer": (None, "adam"),
    "rng": (5, "seed"),
    "stop_training": (True, 1),
}
REFUSED = (
    "model", "comm", "rank", "stateful", "sync_batchnorm", "history", "not_finite",
    "learning_rate", "_runs_in_c",
)  # fmt: skip


def attributes():
    return {
        name for name, kind in inspect.getmembers(fastnn.Trainer)
        if not name.startswith("_") and not inspect.isfunction(kind) and not inspect.ismethod(kind)
    }  # fmt: skip


def test_every_attribute_takes_effect_or_is_refused():
    assert attributes() == {*ASSIGNED, "state"} | set(REFUSED[:7])


@pytest.mark.parametrize("name", ASSIGNED)
def test_what_is_assigned_counts_from_the_next_step_on(name):
    trainer, plain = make("mse", lr=0.1, l2=0.1), make("mse", lr=0.1, l2=0.1)
    good, bad = ASSIGNED[name]
    for one in (trainer, plain):
        one.step(X, Y)
    with pytest.raises((TypeError, ValueError), match=f"{name}: expected"):
        setattr(trainer, name, bad)
    setattr(trainer, name, good)
    for one in (trainer, plain):
        if name in ("rng", "stop_training"):
            one.fit(X, Y, epochs=1)
        else:
            one.step(X, Y)
    differs = not np.array_equal(trainer.model.get_flat(), plain.model.get_flat())
    assert differs == (name != "stop_training")


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_assigned_is_refused(name):
    with pytest.raises(AttributeError, match=f"{name}: "):
        setattr(make(), name, 1)
    with pytest.raises(AttributeError, match="did you mean 'optimizer'"):
        make().optimiser = None
    with pytest.raises(AttributeError, match="state: expected a Trainer with stateful=True"):
        make().state = None


def test_messages_and_signatures_say_trainer():
    for call in (lambda: fastnn.Trainer(mlp(), "mse"), lambda: make().step(X),
                 lambda: make().fit(X, Y), lambda: make().evaluate(X)):  # fmt: skip
        with pytest.raises(TypeError, match="Trainer"):
            call()
    assert list(inspect.signature(fastnn.Trainer).parameters)[:3] == ["model", "loss", "optimizer"]
    for _, function in inspect.getmembers(fastnn.Trainer, inspect.isfunction):
        assert function.__qualname__.startswith("Trainer.")


def test_repr():
    text = repr(make(losses.huber(delta=2.0), l2=0.5, accumulate=3))
    assert text.startswith("Trainer(\n    Sequential(")
    assert "loss=huber(delta=2.0)" in text
    assert "optimizer=Adam(" in text
    assert text.endswith("    l2=0.5,\n    accumulate=3,\n)")
    layers = [fastnn.Linear(6, 20), fastnn.Tanh(), fastnn.Sequential(fastnn.Linear(20, 3))]
    assert repr(fastnn.Sequential(*layers[1:])) == f"Sequential({layers[1]}, {layers[2]})"
    assert repr(fastnn.Sequential(*layers * 3)).splitlines()[1] == f"    {layers[0]},"


# Weights and losses ------------------------------------------------------------------------------


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    "loss", ["mse", losses.huber(reduction="batch"), losses.gaussian_nll(reduction="sum")]
)
def test_weights_of_elements(loss, weighted, rng):
    """In `step`, with and without a conversion, in `fit` and in `evaluate`."""
    width = 6 if "gaussian" in repr(loss) else 3
    model = fastnn.Sequential(fastnn.Linear(6, width), dtype="float64", rng=0)
    function = losses.resolve(loss)
    weight, of_samples = rng.uniform(0, 2, Y.shape), W if weighted else None
    trainer = fastnn.Trainer(model, loss, optim.SGD(model.parameters(), lr=0.0))
    want, dpred = function(model(X), Y, of_samples, weight)
    model.forward(X, training=True)
    model.backward(dpred)
    gradient = model.get_flat_grad()
    for w in (weight, weight.tolist(), weight):
        assert trainer.step(X, Y, of_samples, w) == pytest.approx(want, rel=1e-12)
        np.testing.assert_allclose(model.get_flat_grad(), gradient, rtol=1e-9, atol=1e-14)
    plain = trainer.step(X, Y, of_samples)
    assert plain == pytest.approx(function(model(X), Y, of_samples)[0], rel=1e-12)
    result = trainer.evaluate(X, Y, sample_weight=of_samples, element_weight=weight)
    assert result["loss"] == pytest.approx(want, rel=1e-12)
    history = trainer.fit(X, Y, epochs=1, sample_weight=of_samples, element_weight=weight)
    assert history.history["loss"][0] == pytest.approx(want, rel=1e-12)


def test_weights_of_elements_are_refused_where_there_are_none():
    with pytest.raises(ValueError, match="element_weight: expected None for cross_entropy"):
        make().step(X, LABELS, element_weight=np.ones(70))
    own = make(lambda pred, target: losses.mse(pred, target))
    for call in (own.step, own.evaluate):
        with pytest.raises(ValueError, match="element_weight: expected None with a loss in Python"):
            call(X, Y, element_weight=np.ones(Y.shape))


@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
def test_negative_weights_are_refused_for_a_mean(loss):
    trainer, y = make(loss), Y if loss == "mse" else LABELS
    before = state(trainer)
    weight = (W - W.mean()).astype(np.float32)
    trainer.step(X.astype(np.float32), y, W.astype(np.float32))
    before = state(trainer)
    for call in (
        lambda: trainer.step(X, y, weight),
        lambda: trainer.step(X.astype(np.float32), y, weight),
        lambda: trainer.fit(X, y, epochs=1, sample_weight=weight),
        lambda: trainer.evaluate(X, y, sample_weight=weight),
    ):
        with pytest.raises(ValueError, match=r'sample_weight: .*"sum" or "batch"'):
            call()
    assert_same(before, state(trainer))


def test_weights_that_turn_negative_during_the_training_are_found():
    weight = W.astype(np.float32)

    def vandal(epoch, logs):
        weight[3] = -1

    with pytest.raises(ValueError, match="sample_weight"):
        make().fit(X, LABELS, epochs=3, sample_weight=weight, callbacks=[vandal])


@pytest.mark.parametrize("kind", [np.float64, np.float32, np.int64])
def test_class_weights_changed_in_place_count(kind):
    weight = np.array([1, 2, 3], kind)
    trainer = make(losses.cross_entropy(class_weight=weight), lr=0.0)
    first = trainer.step(X, LABELS)
    weight[:] = [5, 1, 1]
    want = make(losses.cross_entropy(class_weight=weight.copy()), lr=0.0)
    assert trainer.step(X, LABELS) == want.step(X, LABELS) != first
    assert trainer.evaluate(X, LABELS) == want.evaluate(X, LABELS)
    history = trainer.fit(X, LABELS, epochs=1, shuffle=False).history
    assert history == want.fit(X, LABELS, epochs=1, shuffle=False).history


def test_a_loss_assigned_in_a_training_checks_the_data_anew():
    def change(epoch, logs):
        trainer.loss = "mse"

    trainer = make()
    with pytest.raises(ValueError, match="target: expected shape"):
        trainer.fit(X, LABELS, epochs=3, callbacks=[change])
    trainer = make("mse")
    trainer.fit(X, Y, epochs=2, callbacks=[lambda epoch, logs: setattr(trainer, "loss", "l1")])


def test_a_model_changed_in_a_training_checks_the_data_anew():
    trainer = make("mse")

    def change(epoch, logs):
        trainer.model.layers = trainer.model.layers[:2]

    trainer.optimizer = optim.SGD(trainer.model[0].parameters(), lr=0.1)
    with pytest.raises(ValueError, match="target: expected shape"):
        trainer.fit(X, Y, epochs=3, callbacks=[change])


# Accumulation ------------------------------------------------------------------------------------


@pytest.mark.parametrize("custom", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_accumulated_gradients_are_those_of_a_large_batch(custom, weighted):
    def own(pred, target, *weights):
        return losses.mse(pred, target, sample_weight=weights[0] if weights else None)

    loss = own if custom else "mse"
    weight = W if weighted and not custom else None
    one = make(loss, "float64", l2=0.1, accumulate=3)
    other = make(loss, "float64", l2=0.1)
    for trainer, size in ((one, 10), (other, 30)):
        history = trainer.fit(
            X, Y, epochs=2, batch_size=size, shuffle=False, sample_weight=weight
        )
        assert len(history.epoch) == 2
    assert one.optimizer.t == other.optimizer.t == 6  # the last of an epoch has one batch of ten
    for name, values in other.model.state_dict().items():
        np.testing.assert_allclose(one.model.state_dict()[name], values, rtol=1e-9, atol=1e-12)


def test_gradients_that_wait_are_kept(tmp_path):
    trainer = make(accumulate=2)
    trainer.step(X, LABELS)
    before = state(trainer)
    trainer.save(tmp_path / "file")
    copies = [copy.deepcopy(trainer), pickle.loads(pickle.dumps(trainer))]
    model = mlp(rng=3)
    copies.append(fastnn.Trainer.restore(
        tmp_path / "file", model, "cross_entropy", optim.Adam(model.parameters(), lr=0.01)
    ))  # fmt: skip
    trainer.step(X[:9], LABELS[:9])
    assert trainer.optimizer.t == 1
    assert not np.array_equal(state(trainer)["0.weight"], before["0.weight"])
    for other in copies:
        assert other.accumulate == 2
        other.step(X[:9], LABELS[:9])
        assert_same(state(trainer), state(other))
    trainer.step(X, LABELS)
    trainer.accumulate = 1
    trainer.step(X, LABELS)
    assert trainer.optimizer.t == 2
    trainer.step(X, LABELS)
    assert trainer.optimizer.t == 3


def test_accumulated_gradients_of_sparse_rows():
    model = fastnn.Sequential(fastnn.Embedding(9, 3, sparse=True), rng=0, dtype="float64")
    trainer = fastnn.Trainer(model, "mse", optim.SGD(model.parameters(), lr=1.0), accumulate=2)
    before, y = model[0].weight.data.copy(), np.zeros((2, 3))
    for x in ([0, 1], [5, 1], [2, 3], [4, 4]):
        trainer.step(np.array(x), y)
    moved = (model[0].weight.data != before).any(axis=1)
    assert moved.tolist() == [True] * 6 + [False] * 3


# Sequences of different lengths ------------------------------------------------------------------

TIME, LENGTHS = 5, np.array([5, 0, 3, 1, 4, 2])
SEQUENCES = np.random.default_rng(1).normal(size=(6, TIME, 4))
STEP_LABELS = np.random.default_rng(2).integers(0, 3, (6, TIME))
STEP_TARGETS = np.random.default_rng(3).normal(size=(6, TIME, 3))
MASK = np.arange(TIME) < LENGTHS[:, None]


def recurrent(**options):
    return fastnn.Sequential(
        fastnn.Linear(4, 4), fastnn.LSTM(4, 5, **options), fastnn.Linear(5, 3), dtype="float64",
        rng=0,
    )  # fmt: skip


@pytest.mark.parametrize("reduction", ["mean", "sum", "batch"])
@pytest.mark.parametrize("name", ["mse", "cross_entropy"])
@pytest.mark.parametrize("weighted", [False, True])
def test_padding_counts_for_nothing(name, reduction, weighted):
    """Whatever it holds: the same as each sequence alone, in step, fit, evaluate and predict."""
    loss = getattr(losses, name)(reduction=reduction)
    y = STEP_LABELS if name == "cross_entropy" else STEP_TARGETS
    x, padded = SEQUENCES.copy(), y.copy()
    x[~MASK] = np.nan
    padded[~MASK] = -7 if name == "cross_entropy" else np.nan
    weight = W[:6] if weighted else None
    model = recurrent()
    trainer = fastnn.Trainer(model, loss, optim.SGD(model.parameters(), lr=0.0))
    pred = trainer.predict(x, lengths=LENGTHS)
    total, gradient, count = 0.0, 0.0, 0.0
    summed = fastnn.Trainer(model, getattr(losses, name)(reduction="sum"), None)
    for i, length in enumerate(LENGTHS):
        if not length:
            continue
        alone = x[i : i + 1, :length]
        np.testing.assert_allclose(pred[i, :length], model(alone)[0], rtol=1e-12)
        w = None if weight is None else weight[i : i + 1]
        total += summed.step(alone, y[i : i + 1, :length], w)
        gradient = gradient + model.get_flat_grad()
        count += length * (1 if w is None else w[0]) * (3 if name == "mse" else 1)
    divisor = {"mean": count, "sum": 1, "batch": 6}[reduction]
    assert trainer.step(x, padded, weight, lengths=LENGTHS) == pytest.approx(total / divisor)
    np.testing.assert_allclose(model.get_flat_grad(), gradient / divisor, rtol=1e-9, atol=1e-13)
    given = {"sample_weight": weight, "lengths": LENGTHS}
    metric = "accuracy" if name == "cross_entropy" else "r2"
    result = trainer.evaluate(x, padded, metrics=[metric], **given)
    assert result["loss"] == pytest.approx(total / divisor)
    real = fastnn.training.metrics.METRICS[metric](y[MASK], pred[MASK])
    assert result[metric] == pytest.approx(real)
    history = trainer.fit(
        x, padded, epochs=1, shuffle=False, metrics=[metric],
        validation_data={"x": x, "y": padded, **given}, **given,
    ).history  # fmt: skip
    losses_of_fit = [history["loss"][0], history["val_loss"][0]]
    assert losses_of_fit == pytest.approx([total / divisor] * 2)
    assert history[metric] == history[f"val_{metric}"] == [pytest.approx(real)]


def test_lengths_without_sequences_of_predictions():
    model = recurrent(return_sequences=False)
    trainer = fastnn.Trainer(model, "mse", None)
    x, y = SEQUENCES.copy(), STEP_TARGETS[:, 0]
    x[~MASK] = np.inf
    want = [model(SEQUENCES[i : i + 1, :n])[0] for i, n in enumerate(LENGTHS) if n]
    np.testing.assert_allclose(trainer.predict(x, lengths=LENGTHS)[LENGTHS > 0], want, rtol=1e-12)
    value = losses.mse(trainer.predict(x, lengths=LENGTHS), y)[0]
    assert trainer.step(x, y, lengths=LENGTHS) == pytest.approx(value)
    own = fastnn.Trainer(model, lambda pred, target: losses.mse(pred, target), None)
    assert own.step(x, y, lengths=LENGTHS) == pytest.approx(value)


def test_padding_with_indices_that_name_no_row():
    model = fastnn.Sequential(fastnn.Embedding(7, 4), fastnn.LSTM(4, 3), rng=0)
    trainer = fastnn.Trainer(model, "cross_entropy", None)
    x = np.full((6, TIME), -1)
    x[MASK] = 3
    assert np.isfinite(trainer.step(x, STEP_LABELS, lengths=LENGTHS))


@pytest.mark.parametrize(
    ("lengths", "error"),
    [(np.full(6, 6), ValueError), (np.full(6, -1), ValueError), (LENGTHS[:3], ValueError),
     (LENGTHS + 0.5, TypeError), ("short", TypeError)],
)
def test_lengths_are_checked(lengths, error):
    trainer = fastnn.Trainer(recurrent(), "cross_entropy", None)
    for call in (
        lambda: trainer.step(SEQUENCES, STEP_LABELS, lengths=lengths),
        lambda: trainer.predict(SEQUENCES, lengths=lengths),
        lambda: trainer.evaluate(SEQUENCES, STEP_LABELS, lengths=lengths),
    ):
        with pytest.raises(error, match="lengths: expected"):
            call()
    for call in (make().step, make().evaluate):
        with pytest.raises(ValueError, match="lengths: expected None"):
            call(X, LABELS, lengths=np.ones(70, int))


# The state of sequences --------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2])
def test_the_state_can_be_read_and_set(count):
    layers = [fastnn.LSTM(4, 4, num_layers=2) for _ in range(count)]
    model = fastnn.Sequential(*layers, dtype="float64", rng=0)
    trainer = fastnn.Trainer(model, "mse", None, stateful=True)
    assert trainer.state is None
    y = np.zeros((6, TIME, 4))
    trainer.step(SEQUENCES, y)
    found = trainer.state
    model(SEQUENCES)
    for pair, layer in zip((found,) if count == 1 else found, layers, strict=True):
        for got, want in zip(pair, layer.final_state, strict=True):
            assert got.shape == (2, 6, 4)
            np.testing.assert_allclose(got, want, rtol=1e-12)
    second = trainer.step(SEQUENCES, y)
    assert second != trainer.step(SEQUENCES, y)
    trainer.state = found
    assert trainer.step(SEQUENCES, y) == second
    other = fastnn.Trainer(copy.deepcopy(model), "mse", None, stateful=True)
    other.state = found  # before its first batch
    assert other.step(SEQUENCES, y) == second
    other.state = None
    assert other.state is None
    for wrong in (3, (1,), (np.ones((2, 6, 4)),) * 3, (np.ones((2, 6, 5)), np.ones((2, 6, 4)))):
        with pytest.raises((TypeError, ValueError), match=r"state|h:|h0|c:"):
            trainer.state = wrong
    trainer.state = found
    with pytest.raises(ValueError, match="continue the state"):
        trainer.step(SEQUENCES[:2], y[:2])


# Data --------------------------------------------------------------------------------------------


def test_the_last_samples_can_be_held_out():
    one, other = make("mse"), make("mse")
    history = one.fit(X, Y, epochs=2, validation_split=0.3, sample_weight=W, rng=0).history
    want = other.fit(
        X[:49], Y[:49], epochs=2, sample_weight=W[:49], validation_data=(X[49:], Y[49:], W[49:]),
        rng=0,
    ).history  # fmt: skip
    assert history == want
    assert_same(state(one), state(other))
    for options in ({"validation_split": 1.0}, {"validation_split": 0.001},
                    {"validation_split": 0.5, "validation_data": (X, Y)}):  # fmt: skip
        with pytest.raises(ValueError, match="validation_split: expected"):
            one.fit(X, Y, epochs=1, **options)


@pytest.mark.parametrize("kind", [tuple, dict])
def test_a_loss_in_python_may_have_several_targets(kind, rng):
    a, b = rng.normal(size=(70, 3)), np.arange(70)
    seen = []

    def loss(pred, y):
        first, second = (y["a"], y["b"]) if kind is dict else y
        seen.extend(second)
        return losses.mse(pred, first)

    y = {"a": a, "b": b} if kind is dict else (a, b)
    one, other = make(loss), make("mse")
    result = one.fit(X, y, epochs=2, validation_split=0.2, rng=0).history
    want = other.fit(X, a, epochs=2, validation_split=0.2, rng=0).history
    for name in want:
        assert result[name] == pytest.approx(want[name], rel=1e-5)
    assert sorted(seen[:56]) == list(range(56))
    assert one.evaluate(X, y)["loss"] == pytest.approx(losses.mse(one.predict(X), a)[0], rel=1e-5)
    with pytest.raises(ValueError, match=r"y\[.*\]: expected 70 samples"):
        one.fit(X, {"a": a, "b": b[:9]} if kind is dict else (a, b[:9]), epochs=1)
    with pytest.raises(ValueError, match="metrics: expected functions"):
        one.fit(X, y, epochs=1, metrics=["mse"])


def test_samples_and_targets_of_different_numbers():
    for call in (make().step, lambda x, y: make().fit(x, y, epochs=1), make().evaluate):
        with pytest.raises(ValueError, match="x and y: expected as many samples, got 70 and 50"):
            call(X, LABELS[:50])


# Warnings ----------------------------------------------------------------------------------------


def test_a_loss_that_is_not_finite_is_said_once():
    y = Y.copy()
    with pytest.warns(RuntimeWarning, match=r"nan since epoch \d of 5; a smaller lr") as seen:
        make("mse", lr=1e30).fit(X, y * 1e15, epochs=5)
    assert len(seen) == 1
    assert seen[0].filename == __file__
    y[3] = np.nan
    with pytest.warns(RuntimeWarning, match="since epoch 1 of 3; y holds numbers") as seen:
        make("mse").fit(X, y, epochs=3)
    assert len(seen) == 1


@pytest.mark.parametrize(
    ("last", "loss"),
    [(fastnn.Softmax, "cross_entropy"), (fastnn.Sigmoid, "binary_cross_entropy_with_logits")],
)
def test_a_softmax_before_a_loss_of_logits_is_said(last, loss):
    model = fastnn.Sequential(fastnn.Linear(6, 3), fastnn.Sequential(last()), rng=0)
    with pytest.warns(RuntimeWarning, match=f"{loss} takes logits.*{last.__name__}") as seen:
        trainer = fastnn.Trainer(model, loss, None)
    assert seen[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        copy.deepcopy(trainer)
        trainer.loss = "mse"
        fastnn.Trainer(fastnn.Sequential(fastnn.LogSoftmax()), "cross_entropy", None)
    with pytest.warns(RuntimeWarning, match="takes logits") as seen:
        trainer.loss = loss
    assert seen[0].filename == __file__
