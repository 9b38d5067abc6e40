"""What the estimators have beyond scikit-learn's, and those with LSTMs."""

import pickle
import warnings
from functools import partial

import numpy as np
import pytest

pytest.importorskip("sklearn")

from sklearn.datasets import load_diabetes, load_iris
from sklearn.model_selection import train_test_split

import fastnn
from fastnn import losses, optim, schedules
from fastnn.sklearn import LSTMClassifier, LSTMRegressor, MLPClassifier, MLPRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X, LABELS = load_iris(return_X_y=True)
SAMPLES, Y = load_diabetes(return_X_y=True)
Y = (Y - Y.mean()) / Y.std()


USUAL = {"hidden_layer_sizes": (8,), "max_iter": 10, "random_state": 0}


def classifier(**options):
    return MLPClassifier(**USUAL | options)


def regressor(**options):
    return MLPRegressor(**USUAL | options)


def kinds(model):
    return [type(layer).__name__ for layer in model._network.layers]


def test_activations_dropout_and_normalization():
    model = classifier(
        hidden_layer_sizes=(5, 4), activation=["gelu", fastnn.LeakyReLU(0.3)],
        dropout=[0.2, 0.0], normalization="layer",
    ).fit(X, LABELS)  # fmt: skip
    assert kinds(model) == [
        "Linear", "LayerNorm", "GELU", "Dropout", "Linear", "LayerNorm", "LeakyReLU", "Linear",
    ]  # fmt: skip
    assert model._network.layers[6].negative_slope == 0.3
    assert [w.shape for w in model.coefs_] == [(4, 5), (5, 4), (4, 3)]
    again = classifier(
        hidden_layer_sizes=(5, 4), activation=["gelu", fastnn.LeakyReLU(0.3)],
        dropout=[0.2, 0.0], normalization="layer",
    ).fit(X, LABELS)  # fmt: skip
    assert model.loss_curve_ == again.loss_curve_  # the masks too
    model = classifier(normalization="batch", activation=fastnn.SiLU, batch_size=149)
    assert model.fit(X, LABELS).n_iter_ == 10  # a last batch of one sample is left out
    np.testing.assert_array_equal(model.predict(X), model.predict(X))
    assert kinds(model) == ["Linear", "BatchNorm1d", "SiLU", "Linear"]
    model = classifier(normalization="layer", solver="lbfgs", max_iter=50).fit(X, LABELS)
    assert model.score(X, LABELS) > 0.95


@pytest.mark.parametrize("balanced", [False, True])
def test_class_weights_are_sample_weights(balanced):
    few = np.r_[:60, 100:110]
    weights = "balanced" if balanced else {0: 1.0, 1: 2.0, 2: 5.0}
    counts = {c: np.sum(LABELS[few] == c) for c in range(3)}
    given = {c: 70 / (3 * counts[c]) for c in counts} if balanced else weights
    one = classifier(class_weight=weights).fit(X[few], LABELS[few])
    sample_weight = np.array([given[c] for c in LABELS[few]])
    other = classifier().fit(X[few], LABELS[few], sample_weight=sample_weight)
    np.testing.assert_allclose(one.loss_curve_, other.loss_curve_, rtol=1e-12)
    both = classifier(class_weight=weights)
    both.fit(X[few], LABELS[few], sample_weight=np.full(70, 2.0))
    assert both.loss_ == pytest.approx(one.loss_, rel=1e-3)


def test_any_loss_optimizer_and_schedule():
    smooth = partial(losses.cross_entropy, label_smoothing=0.2)
    model = classifier(loss=smooth, alpha=0, shuffle=False, max_iter=1).fit(X, LABELS)
    plain = classifier(alpha=0, shuffle=False, max_iter=1).fit(X, LABELS)
    assert model.loss_ != plain.loss_
    first = classifier(alpha=0, max_iter=1, solver="sgd", learning_rate_init=1e-300, loss=smooth)
    first.fit(X, LABELS)
    logits = np.log(first.predict_proba(X))
    assert first.loss_ == pytest.approx(smooth(logits, LABELS)[0], rel=1e-9)
    for loss, exact in (
        ("absolute_error", np.abs),
        ("huber", lambda d: np.where(abs(d) < 1, d * d / 2, abs(d) - 0.5)),
        (lambda p, t: (float(((p - t) ** 4).mean()), 4 * (p - t) ** 3 / p.size), lambda d: d**4),
    ):  # fmt: skip
        model = regressor(loss=loss, alpha=0, solver="sgd", learning_rate_init=1e-300, max_iter=1)
        model.fit(SAMPLES, Y)
        assert model.loss_ == pytest.approx(np.mean(exact(model.predict(SAMPLES) - Y)), rel=1e-9)
        assert regressor(loss=loss, learning_rate_init=0.01, max_iter=60).fit(SAMPLES, Y).score(
            SAMPLES, Y
        ) > 0.4  # fmt: skip
    runs = [
        regressor(optimizer=optimizer, learning_rate_init=0.01).fit(SAMPLES, Y).loss_curve_
        for optimizer in ("adamw", optim.AdamW, partial(optim.AdamW, lr=0.01))
    ]
    assert runs[0] == runs[1] == runs[2]
    slow = regressor(schedule=schedules.constant(1e-3)).fit(SAMPLES, Y)
    assert slow.loss_curve_ == regressor().fit(SAMPLES, Y).loss_curve_
    step = regressor(solver="sgd", schedule=schedules.piecewise_constant([9], [0.0, 0.1]))
    curve = step.fit(SAMPLES, Y).loss_curve_  # three steps per epoch
    assert curve[2] == pytest.approx(curve[0], rel=0.01)
    assert curve[9] < 0.96 * curve[2]


def test_quantiles_counts_and_variances():
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (600, 1))
    y = 2 * x[:, 0] + rng.normal(size=600) * np.exp(x[:, 0])
    options = {"hidden_layer_sizes": (8,), "max_iter": 80, "learning_rate_init": 0.02}
    model = regressor(loss=losses.quantile(quantiles=[0.1, 0.5, 0.9]), **options).fit(x, y)
    found = model.predict(x)
    assert found.shape == (600, 3)
    assert (y[:, None] < found).mean(0) == pytest.approx([0.1, 0.5, 0.9], abs=0.03)
    assert 0.3 < model.score(x, y) < 1
    model = regressor(loss=losses.quantile(quantiles=[0.1, 0.9]), **options)
    assert model.fit(x, np.c_[y, y, -y]).predict(x).shape == (600, 3, 2)
    model = regressor(loss="gaussian_nll", early_stopping=True, **options).fit(x, y)
    mean, std = model.predict(x, return_std=True)
    np.testing.assert_array_equal(model.predict(x), mean)
    assert mean.shape == std.shape == (600,)
    assert np.corrcoef(std, np.exp(x[:, 0]))[0, 1] > 0.95
    assert np.mean(((y - mean) / std) ** 2) == pytest.approx(1, abs=0.15)
    with pytest.raises(ValueError, match="return_std"):
        regressor().fit(x, y).predict(x, return_std=True)
    counts = rng.poisson(np.exp(1 + x[:, 0]))
    model = regressor(loss="poisson_nll", **options).fit(x, counts)
    np.testing.assert_allclose(model.predict(x), np.exp(1 + x[:, 0]), rtol=0.2)
    assert model.out_activation_ == "exp"


def test_validation_data_and_any_metric():
    train, held, y, y_held = train_test_split(SAMPLES, Y, random_state=0)
    model = regressor(validation_data=(held, y_held)).fit(train, y)
    assert len(model.validation_loss_curve_) == model.n_iter_ == 10
    assert model.loss_curve_ == regressor().fit(train, y).loss_curve_  # only looked at
    exact = 0.5 * np.mean((model.predict(held) - y_held) ** 2)
    assert model.validation_loss_curve_[-1] == pytest.approx(exact, rel=1e-12)
    assert regressor().fit(train, y).validation_loss_curve_ is None
    options = {"learning_rate_init": 0.05, "max_iter": 60, "validation_data": (held, y_held)}
    model = regressor(early_stopping=True, **options).fit(train, y)
    assert model.score(held, y_held) == pytest.approx(model.best_validation_score_, rel=1e-12)
    assert len(model.loss_curve_) == len(model.validation_scores_) == model.n_iter_
    model = regressor(early_stopping="neg_median_absolute_error", **options).fit(train, y)
    exact = -np.median(abs(model.predict(held) - y_held))
    assert model.best_validation_score_ == pytest.approx(exact, rel=1e-12)
    model = classifier(early_stopping="neg_log_loss", max_iter=40).fit(X, LABELS)
    assert model.best_validation_score_ < 0


def test_callbacks_and_progress(capsys):
    seen = []

    class Watch:
        def on_epoch_end(self, epoch, logs):
            seen.append((epoch, dict(logs)))
            self.trainer.stop_training = epoch == 3

        def set_trainer(self, trainer):
            self.trainer = trainer

    with warnings.catch_warnings(action="error"):
        model = classifier(callbacks=[Watch()], early_stopping=True, progress=True)
        model.fit(X, LABELS)
    assert [epoch for epoch, _ in seen] == [0, 1, 2, 3]
    assert [logs["loss"] for _, logs in seen] == model.loss_curve_
    assert [logs["val_score"] for _, logs in seen] == model.validation_scores_
    assert [logs["val_loss"] for _, logs in seen] == model.validation_loss_curve_


def test_warm_starts_that_continue():
    whole = regressor(max_iter=6, shuffle=False).fit(SAMPLES, Y)
    parts = regressor(max_iter=3, shuffle=False, warm_start="continue")
    parts.fit(SAMPLES, Y)
    pickle.loads(pickle.dumps(parts)).fit(SAMPLES, Y)
    parts.fit(SAMPLES, Y)
    assert parts.loss_curve_ == whole.loss_curve_
    forgetful = regressor(max_iter=3, shuffle=False, warm_start=True)
    assert forgetful.fit(SAMPLES, Y).fit(SAMPLES, Y).loss_curve_[:3] == whole.loss_curve_[:3]
    assert forgetful.loss_curve_ != whole.loss_curve_


@pytest.mark.parametrize("labels", [LABELS, LABELS == 1], ids=["three", "two"])
def test_members_are_averaged(labels):
    model = classifier(n_members=3).fit(X, labels)
    assert len(model.estimators_) == 3
    assert len({member.loss_ for member in model.estimators_}) == 3
    mean = np.mean([member.predict_proba(X) for member in model.estimators_], axis=0)
    np.testing.assert_allclose(model.predict_proba(X), mean, rtol=1e-12)
    gradient = np.mean([member.predict_gradient(X) for member in model.estimators_], axis=0)
    np.testing.assert_allclose(model.predict_gradient(X), gradient, rtol=1e-12)
    alike = classifier(n_members=3).fit(X, labels)
    np.testing.assert_array_equal(alike.predict_proba(X), model.predict_proba(X))
    threads = fastnn.get_num_threads()
    fastnn.set_num_threads(2)
    try:
        side_by_side = classifier(n_members=3).fit(X, labels)
    finally:
        fastnn.set_num_threads(threads)
    np.testing.assert_array_equal(side_by_side.predict_proba(X), model.predict_proba(X))
    with pytest.raises(ValueError, match="n_members"):
        classifier(n_members=2).partial_fit(X, labels, classes=np.unique(labels))
    assert regressor(n_members=2).fit(SAMPLES, Y).predict(SAMPLES).shape == Y.shape


def test_intervals_cover():
    """Of a straight line with noise, over several splits; and each output for itself."""
    rng, covered = np.random.default_rng(0), []
    for seed in range(12):
        x = rng.uniform(-1, 1, (400, 1))
        y = np.c_[x[:, 0], 2 * x[:, 0]] + rng.normal(size=(400, 2)) * [0.1, 0.5]
        model = MLPRegressor(
            "squared_error", (), solver="sgd", learning_rate_init=0.1, max_iter=15,
            early_stopping=True, validation_fraction=0.4, random_state=seed,
        ).fit(x[:200], y[:200])  # fmt: skip
        lower, upper = model.predict_interval(x[200:], coverage=0.8)
        covered.append(((lower <= y[200:]) & (y[200:] <= upper)).mean(0))
    assert np.mean(covered, axis=0) == pytest.approx([0.8, 0.8], abs=0.04)
    widths = (upper - lower)[0]
    assert widths[1] > 3 * widths[0]
    one = regressor(validation_data=(SAMPLES[:99], Y[:99])).fit(SAMPLES[99:], Y[99:])
    lower, upper = one.predict_interval(SAMPLES[:99], coverage=0.9)
    assert lower.shape == upper.shape == (99,)
    inside = (lower <= Y[:99]) & (Y[:99] <= upper)
    assert inside.sum() == 90  # of the calibration itself: ⌈0.9 · 100⌉
    with pytest.raises(ValueError, match=r"coverage: expected at most 0\.99"):
        one.predict_interval(SAMPLES, coverage=0.999)
    with pytest.raises(ValueError, match="coverage: expected"):
        one.predict_interval(SAMPLES, coverage=1)
    with pytest.raises(AttributeError, match="predict_interval"):
        regressor().fit(SAMPLES, Y).predict_interval(SAMPLES)


def test_intervals_cover_nine_of_ten_over_fifty_splits():
    covered = []
    for seed in range(50):
        x, x_test, y, y_test = train_test_split(SAMPLES, Y, random_state=seed)
        model = MLPRegressor(
            hidden_layer_sizes=(8,), early_stopping=True, validation_fraction=0.3,
            learning_rate_init=0.05, max_iter=30, random_state=seed,
        ).fit(x, y)  # fmt: skip
        lower, upper = model.predict_interval(x_test, coverage=0.9)
        covered.append(((lower <= y_test) & (y_test <= upper)).mean())
    assert np.mean(covered) == pytest.approx(0.9, abs=0.02)


@pytest.mark.parametrize("case", ["three", "two", "several", "numbers", "counts"])
def test_gradients_of_predictions(case):
    x, step = X[:7], 1e-6
    if case in ("numbers", "counts"):
        y = np.c_[X[:, 0], X[:, 1]]
        loss = "squared_error" if case == "numbers" else "poisson"
        model = regressor(activation="tanh", loss=loss).fit(X, y)
        predict = model.predict
    else:
        y = {"three": LABELS, "two": LABELS > 0, "several": np.c_[LABELS > 0, LABELS > 1]}[case]
        model = classifier(activation="tanh").fit(X, y)
        predict = model.predict_proba
    found = model.predict_gradient(x)
    slopes = [
        (predict(x + step * unit) - predict(x - step * unit)) / (2 * step) for unit in np.eye(4)
    ]
    np.testing.assert_allclose(found, np.stack(slopes, -1), rtol=1e-5, atol=1e-9)


def test_one_sample_at_a_time():
    rng = np.random.default_rng(0)
    model = regressor(solver="sgd", learning_rate_init=0.05, activation="tanh", alpha=0)
    twin = regressor(solver="sgd", learning_rate_init=0.05, activation="tanh", alpha=0)
    for i in range(300):
        a, b = rng.normal(size=2)
        assert model.learn_one({"a": a, "b": b}, a - b) is model
        if i < 20:
            twin.partial_fit([[a, b]], [a - b])
            np.testing.assert_allclose(model.coefs_[0], twin.coefs_[0], rtol=1e-12)
    assert model.predict_one({"b": 0.5, "a": 1.0}) == pytest.approx(0.5, abs=0.2)
    assert model.t_ == 300
    for bad in ({"a": 1.0}, {"a": 1.0, "c": 2.0}, {"a": 1, "b": 2, "c": 3}, [1.0, 2.0]):
        with pytest.raises(ValueError, match="x: expected"):
            model.learn_one(bad, 0.0)
    with pytest.raises(ValueError, match="knows the names"):
        regressor().fit(SAMPLES, Y).predict_one({"a": 1.0})


def test_one_label_at_a_time():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=list("abcd"))
    words = np.array(["x", "y", "z"])[LABELS]
    with pytest.raises(ValueError, match="classes: expected all labels"):
        classifier().learn_one({"a": 1.0}, "x")
    fresh = classifier().learn_one({"a": 1.0, "b": 2.0}, "y", classes=["x", "y"])
    assert fresh.learn_one({"b": 2.0, "a": 1.0}, "x").predict_one({"a": 1.0, "b": 2.0}) in "xy"
    assert list(fresh.predict_proba_one({"a": 1.0, "b": 2.0})) == ["x", "y"]
    with pytest.raises(ValueError, match=r"y: expected one of \['x', 'y'\], got 'z'"):
        fresh.learn_one({"a": 1.0, "b": 2.0}, "z")
    model = classifier(learning_rate_init=0.01).partial_fit(frame, words, classes=["x", "y", "z"])
    for _ in range(4):
        for i in np.random.default_rng(0).permutation(150):
            model.learn_one(dict(zip("abcd", X[i], strict=True)), words[i])
    assert model.score(frame, words) > 0.9
    row = dict(zip("abcd", X[0], strict=True))
    assert model.predict_one(row) == "x"
    probability = model.predict_proba_one(row)
    np.testing.assert_allclose(list(probability.values()), model.predict_proba(frame[:1])[0])
    assert list(probability) == ["x", "y", "z"]


def sequences(seed=0, n=120, steps=8, features=2):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, steps, features))
    return x, x[:, :, 0].mean(1)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_sequences_to_numbers(bidirectional):
    x, y = sequences()
    options = {
        "hidden_layer_sizes": (8, 6), "max_iter": 60, "learning_rate_init": 0.02,
        "random_state": 0, "bidirectional": bidirectional,
    }  # fmt: skip
    model = LSTMRegressor(**options).fit(x, y)
    assert model.score(x, y) > 0.8
    assert model.predict(x[:, :5]).shape == (120,)  # sequences of another length
    assert model.n_features_in_ == 2
    again = LSTMRegressor(**options).fit(x, y)
    assert again.loss_curve_ == model.loss_curve_
    copy = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(copy.predict(x), model.predict(x))
    with pytest.raises(ValueError, match=r"3 features.*expecting 2"):
        model.predict(np.zeros((4, 8, 3)))
    slopes = model.predict_gradient(x[:3])
    assert slopes.shape == (3, 1, 8, 2)
    moved = x[:3].copy()
    moved[:, 4, 1] += 1e-6
    difference = (model.predict(moved) - model.predict(x[:3])) / 1e-6
    np.testing.assert_allclose(slopes[:, 0, 4, 1], difference, rtol=1e-3, atol=1e-6)


def test_sequences_to_classes():
    x, y = sequences(features=1)
    words = np.where(y > 0, "up", "down")
    options = {"hidden_layer_sizes": (8,), "max_iter": 40, "learning_rate_init": 0.03}
    model = LSTMClassifier(**options, random_state=0, dropout=0.1, early_stopping=True)
    model.fit(x, words)
    assert model.score(x, words) > 0.85
    flat = LSTMClassifier(**options, random_state=0, dropout=0.1, early_stopping=True)
    flat.fit(x[:, :, 0], words)  # one feature needs no axis
    np.testing.assert_array_equal(flat.predict(x[:, :, 0]), model.predict(x))
    assert LSTMClassifier(**options, solver="lbfgs", random_state=0).fit(x, words).loss_ < 0.1
    member = LSTMClassifier(**options, random_state=0, n_members=2).fit(x, words)
    assert len(member.estimators_) == 2
