"""Callbacks, one by one on a stand-in for the trainer, and the progress display."""

import csv
import io
import math
import sys

import numpy as np
import pytest

import fastnn
from fastnn.callbacks import (
    Callback,
    CallbackList,
    CSVLogger,
    EarlyStopping,
    ModelCheckpoint,
    TerminateOnNaN,
)
from fastnn.training.progress import ProgressBar

NAN = math.nan


class Model:
    """One parameter, given out as the live array."""

    def __init__(self):
        self.weight = np.zeros(2, np.float32)

    def state_dict(self):
        return {"weight": self.weight}

    def load_state_dict(self, mapping):
        self.weight[:] = mapping["weight"]


class Trainer:
    """Runs epochs with given logs; the weight is the number of the epoch."""

    def __init__(self):
        self.model, self.stop_training, self.saved = Model(), False, []

    def save(self, path):
        self.saved.append(path.name)

    def fit(self, callback, *logs):
        """Return the number of epochs that were run."""
        self.stop_training = False
        callbacks = CallbackList([callback], self)
        callbacks.on_train_begin()
        for epoch, entry in enumerate(logs):
            callbacks.on_epoch_begin(epoch)
            self.model.weight[:] = epoch
            callbacks.on_epoch_end(epoch, entry)
            if self.stop_training:
                break
        callbacks.on_train_end(entry)
        return epoch + 1


def losses(*values, name="loss"):
    return [{name: value} for value in values]


class Recorder(Callback):
    def __init__(self):
        self.calls = []

    def on_train_begin(self):
        self.calls.append("train begin")

    def on_epoch_begin(self, epoch):
        self.calls.append(f"epoch {epoch} begin")

    def on_epoch_end(self, epoch, logs):
        self.calls.append(f"epoch {epoch} end {logs['loss']}")

    def on_train_end(self, logs):
        self.calls.append(f"train end {logs['loss']}")


def test_hooks_are_called_in_order():
    trainer, recorder = Trainer(), Recorder()
    trainer.fit(recorder, *losses(0.5, 0.25))
    assert recorder.trainer is trainer
    assert recorder.calls == [
        "train begin", "epoch 0 begin", "epoch 0 end 0.5", "epoch 1 begin", "epoch 1 end 0.25",
        "train end 0.25",
    ]  # fmt: skip


def test_the_hooks_of_the_base_do_nothing():
    assert Trainer().fit(Callback(), *losses(1, 2)) == 2


def test_an_object_with_on_epoch_end_is_enough():
    class Minimal:
        seen = ()

        def on_epoch_end(self, epoch, logs):
            self.seen += ((epoch, logs["loss"]),)

    minimal = Minimal()
    assert Trainer().fit(minimal, *losses(3, 2)) == 2
    assert minimal.seen == ((0, 3), (1, 2))


def test_a_function_is_a_callback():
    seen = []
    assert Trainer().fit(lambda epoch, logs: seen.append((epoch, logs["loss"])), *losses(3, 2)) == 2
    assert seen == [(0, 3), (1, 2)]


def test_any_object_finds_the_trainer():
    class Slots:
        __slots__ = ()

        def on_epoch_end(self, epoch, logs):
            pass

    class Own:
        def on_train_begin(self):
            assert self.trainer is trainer

    trainer = Trainer()
    for callback in (Slots(), Own()):
        trainer.fit(callback, *losses(1))


def test_batches_can_be_followed():
    class Batches:
        def __init__(self):
            self.steps = []

        def on_batch_end(self, step, logs):
            self.steps.append(step)
            logs["twice"] = 2 * logs["loss"]

    callback = Batches()
    callbacks = CallbackList([callback, Callback()], Trainer())
    assert callbacks.follows_batches
    assert not CallbackList([Callback(), len], Trainer()).follows_batches
    for step, loss in enumerate([1.0, 2.0]):
        callbacks.on_batch_end(step, loss)
    assert callback.steps == [0, 1]
    assert callbacks.added() == {"twice": 3}
    assert callbacks.added() == {}


def test_what_will_not_be_in_the_logs_is_refused_before():
    names = ["loss", "accuracy"]
    for wrong, message in (
        (EarlyStopping(), "monitor: expected one of .* it needs validation_data"),
        (EarlyStopping("acuracy"), "did you mean 'accuracy'"),
        (ModelCheckpoint("x", save_best_only=True), "monitor: expected one of"),
        (ModelCheckpoint("{val_loss}"), "path: expected fields from"),
    ):
        with pytest.raises(ValueError, match=message):
            CallbackList([wrong], Trainer(), names)
        CallbackList([lambda epoch, logs: None, wrong], Trainer(), names)  # it may add it
    CallbackList([EarlyStopping("accuracy"), ModelCheckpoint("{epoch}{loss}")], Trainer(), names)


def test_how_callbacks_look():
    assert repr(EarlyStopping()) == "EarlyStopping(mode='min')"
    looks = "EarlyStopping(monitor='accuracy', patience=3, mode='max')"
    assert repr(EarlyStopping("accuracy", 3)) == looks
    assert repr(ModelCheckpoint("a")) == "ModelCheckpoint(path='a', mode='min')"
    assert repr(TerminateOnNaN()) == "TerminateOnNaN()"
    assert repr(CSVLogger("x", append=True)) == "CSVLogger(path='x', append=True)"


def test_why_a_training_was_stopped():
    stopping = EarlyStopping("loss", patience=2)
    Trainer().fit(stopping, *losses(3, 1, 2, 2))
    assert stopping.reason == "loss has not improved for 2 epochs, best 1 after 2 epochs"
    guard = TerminateOnNaN()
    Trainer().fit(guard, *losses(3, NAN))
    assert guard.reason == "loss is nan"


@pytest.mark.parametrize("callbacks", [[object()], [EarlyStopping], [None], None, EarlyStopping()])
def test_rejects_what_is_no_callback(callbacks):
    with pytest.raises(TypeError, match=r"callbacks: expected .* got "):
        CallbackList(callbacks, Trainer())


@pytest.mark.parametrize(
    ("options", "values", "epochs", "best"),
    [
        ({"patience": 2}, [5, 4, 4, 4, 3], 4, 4),
        ({"patience": 3}, [5, 4, 4, 4, 3], 5, 3),
        ({"patience": 1}, [1, 2], 2, 1),
        ({"patience": 2, "min_delta": 1}, [5, 4.5, 3.9, 3.2, 3, 1], 5, 3.9),
        ({"patience": 2, "mode": "max"}, [5, 6, 5, 6, 7], 4, 6),
        ({"patience": 2}, [5, NAN, 4, NAN, NAN, 3], 5, 4),
        ({"patience": 2}, [NAN, NAN, 1], 2, math.inf),
        ({"patience": 2}, [math.inf, 2, 1], 3, 1),
    ],
)
def test_early_stopping(options, values, epochs, best):
    stopping = EarlyStopping("loss", **options)
    trainer = Trainer()
    for _ in range(2):  # the second training starts afresh
        assert trainer.fit(stopping, *losses(*values)) == epochs
        assert stopping.best == best
        assert stopping.best_epoch == (values.index(best) if best in values else -1)
        assert stopping.stopped_epoch == (epochs - 1 if trainer.stop_training else None)


@pytest.mark.parametrize(
    ("name", "mode"),
    [("val_loss", "min"), ("mse", "min"), ("val_accuracy", "max"), ("r2", "max"), ("auc", "max")],
)
def test_early_stopping_knows_which_way_is_better(name, mode):
    assert EarlyStopping(name).mode == mode
    rising = Trainer().fit(EarlyStopping(name, patience=1), *losses(1, 2, 3, name=name)) == 3
    assert rising == (mode == "max")


@pytest.mark.parametrize("values", [[3, 1, 2, 2], [3, 1, 2], [1, 2]])
def test_early_stopping_restores_the_best_parameters(values):
    trainer = Trainer()
    trainer.fit(EarlyStopping("loss", patience=2, restore_best=True), *losses(*values))
    assert (trainer.model.weight == values.index(1)).all()
    trainer.fit(EarlyStopping("loss", patience=2), *losses(*values))
    assert (trainer.model.weight == len(values) - 1).all()


def test_early_stopping_without_any_best_keeps_the_parameters():
    trainer = Trainer()
    trainer.fit(EarlyStopping("loss", restore_best=True), *losses(NAN, NAN))
    assert (trainer.model.weight == 1).all()


@pytest.mark.parametrize(
    "callback",
    [EarlyStopping("val_loss"), ModelCheckpoint("model", "val_loss", save_best_only=True)],
)
def test_a_monitor_that_is_not_in_the_logs(callback):
    with pytest.raises(ValueError, match=r"monitor: expected one of \['loss'\], got 'val_loss'"):
        Trainer().fit(callback, {"loss": 1.0})


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"monitor": 3}, TypeError),
        ({"patience": 0}, ValueError),
        ({"patience": 1.5}, TypeError),
        ({"min_delta": -1}, ValueError),
        ({"min_delta": NAN}, ValueError),
        ({"mode": "up"}, ValueError),
    ],
)
def test_early_stopping_rejects_bad_arguments(options, error):
    with pytest.raises(error, match=rf"{next(iter(options))}: expected .* got "):
        EarlyStopping(**options)


def test_checkpoint_of_every_epoch(tmp_path):
    trainer = Trainer()
    trainer.fit(ModelCheckpoint(tmp_path / "new" / "{epoch:02d}-{loss:.1f}"), *losses(3, 1, 2))
    assert trainer.saved == ["00-3.0", "01-1.0", "02-2.0"]
    assert (tmp_path / "new").is_dir()


def test_checkpoint_of_the_best_epochs_goes_on_in_the_next_training(tmp_path):
    trainer = Trainer()
    checkpoint = ModelCheckpoint(str(tmp_path / "{loss}"), "loss", save_best_only=True)
    trainer.fit(checkpoint, *losses(NAN, 3, 4, 2))
    trainer.fit(checkpoint, *losses(2.5, 1))
    assert trainer.saved == ["3", "2", "1"]
    assert (checkpoint.best, checkpoint.best_epoch) == (1, 1)


@pytest.mark.parametrize("path", ["{accuracy}", "{}"])
def test_checkpoint_rejects_unknown_fields(path):
    with pytest.raises(ValueError, match=r"path: expected fields from \['epoch', 'loss'\]"):
        Trainer().fit(ModelCheckpoint(path), {"loss": 1.0})


def test_checkpoint_rejects_what_is_no_path():
    with pytest.raises(TypeError):
        ModelCheckpoint(3)


def rows(path):
    with path.open(newline="") as file:
        return list(csv.reader(file))


def test_csv_logger(tmp_path):
    path = tmp_path / "log.csv"
    logger = CSVLogger(path)
    first = {"loss": 1 / 3, "val_loss": np.float64(0.1)}
    assert Trainer().fit(logger, first, {"loss": 0.25}) == 2
    header, *values = rows(path)
    assert header == ["epoch", "loss", "val_loss"]
    assert values == [["0", str(1 / 3), "0.1"], ["1", "0.25", ""]]
    Trainer().fit(CSVLogger(path, append=True), {"val_loss": 3.0, "loss": 2.0})
    assert rows(path)[3:] == [["0", "2.0", "3.0"]]
    Trainer().fit(logger, {"accuracy": 1.0})
    assert rows(path) == [["epoch", "accuracy"], ["0", "1.0"]]


def test_csv_logger_appends_to_a_file_that_does_not_exist(tmp_path):
    Trainer().fit(CSVLogger(tmp_path / "log.csv", append=True), {"loss": 1.0})
    assert rows(tmp_path / "log.csv") == [["epoch", "loss"], ["0", "1.0"]]


def test_csv_logger_rejects_new_entries(tmp_path):
    with pytest.raises(ValueError, match="accuracy"):
        Trainer().fit(CSVLogger(tmp_path / "log.csv"), {"loss": 1.0}, {"accuracy": 1.0})


def test_csv_logger_finds_a_wrong_path_before_the_first_epoch(tmp_path):
    with pytest.raises(FileNotFoundError):
        CSVLogger(tmp_path / "nowhere" / "log.csv").on_train_begin()


@pytest.mark.parametrize("name", ["loss", "val_loss"])
@pytest.mark.parametrize("value", [NAN, math.inf, -math.inf, np.float32(NAN)])
def test_terminate_on_nan(name, value):
    guard = TerminateOnNaN()
    fine = {"loss": 1.0, "val_loss": 1.0, "auc": NAN}
    trainer = Trainer()
    assert trainer.fit(guard, fine, fine | {name: value}, fine) == 2
    assert guard.stopped_epoch == 1
    assert trainer.fit(guard, fine, fine) == 2
    assert guard.stopped_epoch is None


class Terminal(io.StringIO):
    def isatty(self):
        return True


def show(stream, stop_after=3):
    """Show three epochs of ten steps, or the first of them."""
    progress = ProgressBar(stream)
    progress.start(epochs=3, steps_per_epoch=10)
    for epoch in range(stop_after):
        for step in range(10):
            progress.update(step + 1, loss=0.5)
        progress.epoch_end(epoch, {"loss": 0.25, "val_loss": epoch})
    progress.close()
    assert not progress.enabled
    return stream.getvalue()


def test_progress_is_silent_when_not_on_a_terminal(monkeypatch):
    assert show(io.StringIO()) == ""
    monkeypatch.setattr(sys, "stderr", None)
    progress = ProgressBar()
    progress.start(1, 1)
    assert not progress.enabled
    progress.close()


def test_progress_goes_to_standard_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    monkeypatch.setattr(sys, "stderr", Terminal())
    progress = ProgressBar()
    progress.start(1, 1)
    assert progress.enabled
    progress.epoch_end(0, {"loss": 0.125})
    progress.close()
    assert sys.stderr.getvalue().startswith("epoch 1/1: loss=0.125 (")


def test_progress_without_tqdm_is_a_line_for_each_epoch(monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    lines = show(Terminal()).splitlines()
    assert [line.partition(" (")[0] for line in lines] == [
        f"epoch {epoch + 1}/3: loss=0.25, val_loss={epoch}" for epoch in range(3)
    ]


@pytest.mark.parametrize("epochs", [1, 2, 3])
def test_progress_with_tqdm_ends_with_the_last_logs(epochs, monkeypatch):
    pytest.importorskip("tqdm")
    monkeypatch.setenv("COLUMNS", "120")
    shown = show(Terminal(), stop_after=epochs).split("\r")
    assert shown[-1].startswith(f"epoch {epochs}/3: ")
    assert f"{10 * epochs}/30" in shown[-1]
    assert f"loss=0.25, val_loss={epochs - 1}" in shown[-1]
    assert len(shown) < 10  # not redrawn at every step


def test_a_narrow_bar_leaves_out_counts_first(monkeypatch):
    pytest.importorskip("tqdm")
    seen = {}
    for columns in (80, 60):
        monkeypatch.setenv("COLUMNS", str(columns))
        stream = Terminal()
        progress = ProgressBar(stream)
        progress.start(epochs=200, steps_per_epoch=1000)
        progress.epoch_end(99, {"loss": 0.25, "val_loss": 0.5, "val_accuracy": 0.75})
        progress.close()
        seen[columns] = stream.getvalue().split("\r")[-1].rstrip()
        assert len(seen[columns]) < columns
        assert seen[columns].count("#") >= 2 or columns < 80
    assert "val_accuracy=0.75" in seen[80]
    assert "100000/200000" not in seen[80]


def test_progress_can_be_a_line_for_each_epoch_everywhere():
    for stream, kind in ((io.StringIO(), True), (io.StringIO(), "epochs"), (Terminal(), "epochs")):
        progress = ProgressBar(stream, kind)
        progress.start(2, 10)
        progress.epoch_end(0, {"loss": 0.5})
        progress.epoch_end(1, {"loss": 0.25})
        progress.close("stopped")
        lines = [line.partition(" (")[0] for line in stream.getvalue().splitlines()]
        assert lines == ["epoch 1/2: loss=0.5", "epoch 2/2: loss=0.25", "stopped"]


def test_what_progress_may_be():
    x = np.ones((4, 1))
    model = fastnn.Linear(1, 1, rng=0)
    trainer = fastnn.Trainer(model, "mse", fastnn.optim.SGD(model.parameters(), lr=0.1))
    with pytest.raises(ValueError, match="progress: expected 'auto' or 'epochs', got 'all'"):
        trainer.fit(x, x, epochs=1, progress="all")
    for wrong in (1, None):
        with pytest.raises(TypeError, match="progress: expected True or False"):
            trainer.fit(x, x, epochs=1, progress=wrong)
