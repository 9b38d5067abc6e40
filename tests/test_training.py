"""What `fit`, `evaluate` and `predict` promise."""

import signal
import sys
import tracemalloc
from functools import partial

import numpy as np
import pytest

import fastnn
from fastnn import losses, optim
from fastnn.training import trainer as training

from .trainer_cases import LABELS, W, X, Y, assert_same, make, state


def test_digits():
    datasets = pytest.importorskip("sklearn.datasets")
    pixels, labels = datasets.load_digits(return_X_y=True)
    x, order = (pixels / 16).astype(np.float32), np.random.default_rng(0).permutation(1797)
    train, test = order[:1437], order[1437:]
    model = fastnn.Sequential(
        fastnn.Linear(64, 128), fastnn.ReLU(), fastnn.Linear(128, 10), rng=0
    )
    trainer = fastnn.Trainer(model, "cross_entropy", optim.Adam(model.parameters(), lr=2e-3))
    history = trainer.fit(
        x[train], labels[train], epochs=20, validation_data=(x[test], labels[test]),
        metrics=["accuracy"], rng=0,
    )  # fmt: skip
    assert set(history.history) == {"loss", "accuracy", "val_loss", "val_accuracy", "lr"}
    assert history.epoch == list(range(20))
    assert history.history["loss"][-1] < 0.1 * history.history["loss"][0]
    assert history.history["accuracy"][-1] > 0.99
    result = trainer.evaluate(x[test], labels[test], metrics=["accuracy"])
    assert result["accuracy"] >= 0.97
    assert result["accuracy"] == history.history["val_accuracy"][-1]
    assert result["loss"] == history.history["val_loss"][-1]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("batch_size", [1, 16, 35, 70, 100])
def test_fit_is_a_loop_of_steps(batch_size, shuffle, weighted):
    weight = W if weighted else None
    trainer, manual = make(dropout=0.3), make(dropout=0.3)
    history = trainer.fit(
        X, LABELS, epochs=3, batch_size=batch_size, shuffle=shuffle, sample_weight=weight, rng=7
    )
    rng = np.random.default_rng(7)
    for epoch in range(3):
        order = rng.permutation(70) if shuffle else np.arange(70)
        values, totals = [], []
        for start in range(0, 70, batch_size):
            rows = order[start : start + batch_size]
            given = None if weight is None else weight[rows]
            values.append(manual.step(X[rows], LABELS[rows], given))
            totals.append(len(rows) if weight is None else given.astype(np.float32).sum())
        mean = np.average(values, weights=totals)
        assert history.history["loss"][epoch] == pytest.approx(mean, rel=1e-6)
    assert_same(state(trainer), state(manual))


@pytest.mark.parametrize("seconds", [0, 1e-4, 10])
def test_the_number_of_steps_at_a_time_changes_nothing(seconds, monkeypatch):
    def run():
        schedule = fastnn.schedules.exponential_decay(0.02, 0.01)
        trainer = make(lr=schedule, dropout=0.2)
        return trainer.fit(X, LABELS, epochs=10, batch_size=8, rng=0).history, state(trainer)

    history, expected = run()
    monkeypatch.setattr(training, "_AT_A_TIME", seconds)
    other, result = run()
    assert history == other
    assert_same(expected, result)


def test_the_data_are_neither_copied_nor_changed():
    x, labels = np.zeros((20000, 64), np.float32), np.zeros(20000, np.int64)
    x.flags.writeable = labels.flags.writeable = False
    model = fastnn.Sequential(fastnn.Linear(64, 2), rng=0)
    trainer = fastnn.Trainer(model, "cross_entropy", optim.SGD(model.parameters(), lr=0.1))
    trainer.fit(x[:64], labels[:64], epochs=1)
    tracemalloc.start()
    trainer.fit(x, labels, epochs=1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < x.nbytes / 4


def test_a_loss_that_is_a_sum():
    trainer = make(partial(losses.mse, reduction="sum"), lr=0.0)
    history = trainer.fit(X, Y, epochs=1, batch_size=16)
    whole = losses.mse(trainer.predict(X), Y, reduction="sum")[0]
    assert history.history["loss"][0] == pytest.approx(whole, rel=1e-5)
    assert trainer.evaluate(X, Y)["loss"] == pytest.approx(whole, rel=1e-6)


def test_the_stream_of_the_trainer_comes_from_the_model():
    one, other = make(), make()
    for trainer in (one, other):
        trainer.fit(X, LABELS, epochs=2)
    assert_same(state(one), state(other))


# Metrics and predictions -------------------------------------------------------------------------


def test_evaluate_and_predict():
    trainer = make("mse", "float64", l2=0.1)
    penalty = 0.05 * sum(float((p.data**2).sum()) for p in trainer.model.parameters())
    pred = trainer.model(X)
    np.testing.assert_array_equal(trainer.predict(X, batch_size=7), pred)
    out = np.empty((70, 3))
    assert trainer.predict(X, out=out) is out
    np.testing.assert_array_equal(out, pred)
    assert trainer.predict(X[:0]).shape == (0, 3)
    result = trainer.evaluate(
        X, Y, sample_weight=W, batch_size=9, metrics=["mae", "mse", "rmse", "r2", np_max]
    )
    expected = losses.mse(pred, Y, sample_weight=W)[0] + penalty
    assert result["loss"] == pytest.approx(expected, rel=1e-12)
    assert result["mae"] == pytest.approx(np.abs(pred - Y).mean())
    assert result["mse"] == pytest.approx(((pred - Y) ** 2).mean())
    assert result["rmse"] == pytest.approx(result["mse"] ** 0.5)
    r2 = 1 - ((pred - Y) ** 2).sum(0) / ((Y - Y.mean(0)) ** 2).sum(0)
    assert result["r2"] == pytest.approx(r2.mean())
    assert result["np_max"] == np.abs(pred - Y).max()
    for wrong in (np.empty((70, 2)), np.empty((3, 70)).T, X[:, :3]):
        with pytest.raises(ValueError, match="out"):
            trainer.predict(X, out=wrong)
    with pytest.raises(TypeError, match="out"):
        trainer.predict(X, out=np.empty((70, 3), np.float32))


def np_max(y_true, y_pred):
    return np.abs(y_true - y_pred).max()


def test_r2_of_constant_outputs():
    metric = fastnn.training.metrics.r2
    y = np.array([[1.0, 2.0], [1.0, 4.0]])
    assert metric(y, y) == 1
    assert metric(y, np.array([[1.0, 3.0], [2.0, 3.0]])) == 0


def test_accuracy():
    accuracy = fastnn.training.metrics.accuracy
    scores = np.array([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7], [0.6, 0.4]])
    assert accuracy(np.array([1, 0, 0, 0]), scores) == 0.75
    assert accuracy(np.array([1, 0, -1, 1]), scores, ignore_index=-1) == pytest.approx(2 / 3)
    assert accuracy(np.eye(2)[[1, 0, 0, 1]], scores) == 0.5
    assert accuracy(np.array([[1], [0]]), np.array([[0.7], [0.6]])) == 0.5
    assert accuracy(np.array([1, 0]), np.array([0.2, -0.1]), threshold=0.0) == 1
    with pytest.raises(ValueError, match="accuracy"):
        accuracy(np.zeros(3), scores)
    model = fastnn.Sequential(fastnn.Linear(6, 1), rng=0, dtype="float64")
    trainer = fastnn.Trainer(model, "binary_cross_entropy_with_logits",
                             optim.Adam(model.parameters(), lr=0.1))  # fmt: skip
    y = (X[:, :1] > 0).astype(float)
    history = trainer.fit(X, y, epochs=60, metrics=["accuracy"], rng=0)
    logits = trainer.predict(X)
    assert history.history["accuracy"][-1] == ((logits > 0) == y).mean() > 0.9


@pytest.mark.parametrize("name", ["accuracy", "mae", "mse", "rmse", "r2"])
@pytest.mark.parametrize("where", ["pred", "true"])
def test_metrics_of_nan_are_nan(name, where):
    metric = fastnn.training.metrics.METRICS[name]
    pred, true = np.ones((4, 1)), np.arange(4.0)[:, None]
    {"pred": pred, "true": true}[where][2] = np.nan
    assert np.isnan(metric(true, pred))


def test_metrics_of_infinity():
    metric = fastnn.training.metrics.r2
    for bad in (np.inf, -np.inf):
        assert np.isnan(metric(np.array([[1.0], [bad], [2.0]]), np.ones((3, 1))))
    accuracy = fastnn.training.metrics.accuracy
    scores = np.array([[0.1, 0.9], [np.nan, 0.2], [0.3, 0.7]])
    assert np.isnan(accuracy(np.array([1, 0, 0]), scores))
    assert accuracy(np.array([1, -1, 1]), scores, ignore_index=-1) == 1


# Callbacks, progress, interruption ---------------------------------------------------------------


class Recorder:
    def __init__(self, stop_after=None):
        self.calls, self.stop_after = [], stop_after

    def set_trainer(self, trainer):
        self.trainer = trainer

    def on_train_begin(self):
        self.calls.append("begin")

    def on_epoch_end(self, epoch, logs):
        self.calls.append((epoch, dict(logs)))
        if epoch == self.stop_after:
            self.trainer.stop_training = True

    def on_train_end(self, logs):
        self.calls.append("end")


def test_callbacks():
    recorder = Recorder(stop_after=2)
    trainer = make()
    history = trainer.fit(X, LABELS, epochs=10, callbacks=[recorder], validation_data=(X, LABELS))
    assert recorder.calls[0] == "begin"
    assert recorder.calls[-1] == "end"
    assert [epoch for epoch, _ in recorder.calls[1:-1]] == history.epoch == [0, 1, 2]
    assert [logs["val_loss"] for _, logs in recorder.calls[1:-1]] == history.history["val_loss"]
    assert trainer.history is history
    assert len(trainer.fit(X, LABELS, epochs=2).epoch) == 2  # a stop is for one training


def test_what_callbacks_add_is_in_the_history():
    class Adding:
        def on_batch_end(self, step, logs):
            logs["step"] = step

        def on_epoch_end(self, epoch, logs):
            if epoch:
                logs["late"] = np.float32(epoch)

    schedule = fastnn.schedules.exponential_decay(0.02, 0.1)
    trainer = make(lr=schedule)
    history = trainer.fit(X, LABELS, epochs=3, batch_size=35, callbacks=[Adding()]).history
    assert history["step"] == [0.5] * 3
    assert np.isnan(history["late"][0])
    assert history["late"][1:] == [1, 2]
    assert history["lr"] == pytest.approx([schedule(0), schedule(2), schedule(4)])
    with pytest.raises(TypeError, match=r"logs\['text'\]: expected a number"):
        trainer.fit(X, LABELS, epochs=1, callbacks=[lambda e, logs: logs.update(text="a")])


def test_batches_that_are_followed_change_nothing():
    class Follow:
        steps = ()

        def on_batch_end(self, step, logs):
            self.steps += (step,)

    one, other, follow = make(dropout=0.2), make(dropout=0.2), Follow()
    history = one.fit(X, LABELS, epochs=2, batch_size=32, callbacks=[follow]).history
    assert history == other.fit(X, LABELS, epochs=2, batch_size=32).history
    assert follow.steps == (0, 1, 2) * 2
    assert_same(state(one), state(other))


def test_a_stop_is_told(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setitem(sys.modules, "tqdm", None)
    stopping = fastnn.EarlyStopping("loss", patience=1, min_delta=1e6)
    history = make().fit(X, LABELS, epochs=9, callbacks=[stopping])
    assert (history.stopped_epoch, history.best_epoch) == (1, 0)
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("stopped after 2 epochs: loss has not improved for 1 epoch, best ")
    assert history.reason in repr(history)
    assert make().fit(X, LABELS, epochs=1).stopped_epoch is None


def test_a_monitor_is_refused_before_the_training():
    trainer = make()
    before = state(trainer)
    with pytest.raises(ValueError, match=r"monitor: .*validation_split"):
        trainer.fit(X, LABELS, epochs=1, callbacks=[fastnn.EarlyStopping()])
    assert_same(before, state(trainer))
    trainer.fit(X, LABELS, epochs=1, validation_split=0.2, callbacks=[fastnn.EarlyStopping()])


def test_early_stopping_puts_the_best_parameters_back():
    trainer = make("mse", lr=0.5)
    stopping = fastnn.EarlyStopping("val_loss", patience=3, restore_best=True)
    history = trainer.fit(
        X, Y, epochs=200, validation_data=(X[:20], -Y[:20]), callbacks=[stopping], rng=0
    )
    values = history.history["val_loss"]
    assert len(values) < 200
    best = trainer.evaluate(X[:20], -Y[:20])["loss"]
    assert best == min(values) == values[stopping.best_epoch]


def test_nothing_is_shown_without_a_terminal(capfd):
    make().fit(X, LABELS, epochs=2, validation_data=(X, LABELS))
    assert capfd.readouterr() == ("", "")
    make().fit(X, LABELS, epochs=2, progress=True)  # but for who asks for it
    out, lines = capfd.readouterr()
    assert out == ""
    assert lines.count("\n") == 2


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "cp437"])
def test_progress_in_any_character_set(encoding, tmp_path, monkeypatch):
    """Consoles of Windows have their own."""
    with (tmp_path / "console").open("w", encoding=encoding) as console, monkeypatch.context() as m:
        m.setattr(sys, "stderr", console)
        make().fit(X, LABELS, epochs=2, progress=True)
    assert (tmp_path / "console").read_text(encoding=encoding).count("loss=") == 2


def test_the_progress_on_a_terminal(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setitem(sys.modules, "tqdm", None)  # as if it were not installed
    make().fit(X, LABELS, epochs=2, metrics=["accuracy"])
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert lines[1].startswith("epoch 2/2: loss=")
    make().fit(X, LABELS, epochs=2, progress=False)
    assert capsys.readouterr().err == ""


def test_an_interrupted_training_can_go_on():
    class Interrupt:
        def on_epoch_end(self, epoch, logs):
            if epoch == 1:
                raise KeyboardInterrupt

    trainer, expected = make(dropout=0.2), make(dropout=0.2)
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(X, LABELS, epochs=5, callbacks=[Interrupt()])
    assert trainer.history.epoch == [0, 1]
    trainer.fit(X, LABELS, epochs=2)
    expected.fit(X, LABELS, epochs=4)
    assert_same(state(trainer), state(expected))


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timers")
def test_a_signal_ends_a_long_training():
    def interrupt(number, frame):
        raise KeyboardInterrupt

    trainer = make()
    old = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    try:
        with pytest.raises(KeyboardInterrupt):
            trainer.fit(np.repeat(X, 100_000, axis=0).astype(np.float32),
                        np.repeat(LABELS, 100_000), epochs=1_000_000)  # fmt: skip
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
    assert np.isfinite(trainer.step(X, LABELS))


def test_the_history():
    history = fastnn.History()
    assert repr(history) == "History(0 epochs)"
    history.append(0, {"loss": 1.0})
    assert repr(history) == "History(1 epochs, last: loss=1)"
    assert (history["loss"], list(history), "acc" in history) == ([1.0], ["loss"], False)
    with pytest.raises(KeyError, match=r"name: expected one of \['loss'\], got 'acc'"):
        history["acc"]
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    figure = history.plot()
    assert figure.axes[0].get_ylabel() == "loss"
    import matplotlib.pyplot as plt

    plt.close(figure)
