"""Pictures: against stored ones, light and dark, and what they say.

Stored pictures are small. They are compared as squares of four pixels, so that another version of
matplotlib, or of its fonts, makes no difference and a missing line does. To write them anew, look
at them, and keep them: ``python tests/test_plot.py``.
"""

import io
import warnings
from functools import cache, partial
from pathlib import Path

import numpy as np
import pytest

import fastnn
from fastnn import callbacks, optim, schedules

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")
from matplotlib import animation, pyplot as plt  # noqa: E402

from fastnn import plot  # noqa: E402

IMAGES = Path(__file__).with_name("images")
SIDE, TOLERANCE = 4, 0.02  # pixels, and of root mean square with white as 1


def bowl(x, y):
    return x**2 / 2 + 10 * y**2


def descend(rate, momentum=0.0, steps=40):
    point = np.array([-3.0, 1.0])
    optimizer, path = optim.SGD([point], lr=rate, momentum=momentum), [point.copy()]
    for _ in range(steps):
        optimizer.step([np.array([point[0], 20 * point[1]])])
        path.append(point.copy())
    return np.array(path)


@cache
def paths():
    return {"SGD": descend(0.08), "momentum": descend(0.02, 0.8), "diverged": descend(0.16)}


@cache
def trained():
    """A model, its data, its history and the record of its norms."""
    x = np.random.default_rng(0).normal(size=(120, 2)).astype(np.float32)
    y = (x[:, 0] * x[:, 1] > 0).astype(int)
    layers = [fastnn.Linear(2, 16), fastnn.Tanh(), fastnn.Linear(16, 16), fastnn.ReLU()]
    model = fastnn.Sequential(*layers, fastnn.Linear(16, 2), rng=0)
    optimizer = optim.Adam(model.parameters(), lr=schedules.cosine_decay(0.05, 60))
    record = callbacks.Norms()
    history = fastnn.Trainer(model, "cross_entropy", optimizer).fit(
        x[:90], y[:90], epochs=20, validation_data=(x[90:], y[90:]), metrics=["accuracy"],
        callbacks=[record], progress=False, rng=0,
    )  # fmt: skip
    return model, x, y, history, record


def deep():
    init = partial(fastnn.initializers.normal, std=0.1)
    layers = [part for _ in range(3) for part in (fastnn.Linear(20, 20, init=init), fastnn.Tanh())]
    return fastnn.Sequential(*layers, fastnn.Linear(20, 2), rng=0)


def several_schedules():
    ax = None
    for schedule in (schedules.exponential_decay(0.1, 0.01), schedules.step_decay(0.1, 0.5, 50),
                     schedules.warmup(schedules.cosine_decay(0.1, 150), 50)):  # fmt: skip
        ax = plot.schedule_values(schedule, 200, ax)
    return ax


def curves():
    """Two trainings whose numbers no processor changes."""
    epochs = np.arange(1, 21)
    return {
        name: {
            "loss": np.exp(-rate * epochs) + 0.05,
            "val_loss": np.exp(-rate * epochs) + 0.1 + 0.0005 * (epochs - 12) ** 2,
            "accuracy": 1 - np.exp(-rate * epochs) / 2, "lr": 0.1 / epochs,
        }
        for name, rate in (("slow", 0.1), ("fast", 0.4))
    }  # fmt: skip


X20 = np.random.default_rng(1).normal(size=(200, 20))
SURFACE = {"loss": bowl, "minimum": (0.0, 0.0)}
PICTURES = {
    "activations": plot.activations,
    "dead_units": lambda: plot.dead_units(trained()[0], 0.01 * trained()[1][:3]),
    "decision_boundary": lambda: plot.decision_boundary(*trained()[:3], resolution=60),
    "layer_activations": lambda: plot.layer_activations(deep(), X20),
    "layer_gradients": lambda: plot.layer_gradients(
        deep(), "cross_entropy", X20, np.arange(200) % 2),
    "learning_curves": lambda: plot.learning_curves(curves()["fast"]),
    "learning_curves_of_several": lambda: plot.learning_curves(curves()),
    "norms": lambda: plot.norms(trained()[4]),
    "optimizer_animation": lambda: last_frame(plot.optimizer_animation(
        **SURFACE, paths=paths(), frames=2)),
    "optimizer_comparison": lambda: plot.optimizer_comparison({
        "a bowl": SURFACE | {"paths": paths()},
        "the same": SURFACE | {"paths": {"SGD": paths()["SGD"]}}}),
    "optimizer_paths": lambda: plot.optimizer_paths(**SURFACE, paths=paths()),
    "path_losses": lambda: plot.path_losses(**SURFACE, paths=paths()),
    "saturated_units": lambda: plot.saturated_units(trained()[0], 9 * trained()[1]),
    "schedule_values": several_schedules,
    "surface": lambda: plot.surface(
        bowl, (-4, 4), (-1.5, 1.5), {"SGD": paths()["SGD"]}, minimum=(0, 0)),
}  # fmt: skip


def last_frame(moving):
    moving.save("nowhere", writer=_NoFile())
    return moving._fig


class _NoFile(animation.AbstractMovieWriter):
    """Draws all frames and writes none."""

    def __init__(self):
        super().__init__()
        self.sizes = set()

    def setup(self, fig, outfile, dpi=None):
        super().setup(fig, "nowhere", dpi)

    def grab_frame(self, **_):
        self.sizes.add(self.frame_size)

    def finish(self):
        pass


def drawn(name, ground):
    """Return a picture as PNG."""
    with plt.style.context("default" if ground == "light" else "dark_background"):
        result = PICTURES[name]()
        figure = getattr(result, "figure", None) or result
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=32)
        plt.close("all")
    buffer.seek(0)
    return buffer


def squares(png):
    """Return the mean brightness of squares of pixels."""
    picture = plt.imread(png)[..., :3].mean(axis=2)
    height, width = (n // SIDE * SIDE for n in picture.shape)
    shape = height // SIDE, SIDE, width // SIDE, SIDE
    return picture[:height, :width].reshape(shape).mean(axis=(1, 3))


@pytest.mark.parametrize("ground", ["light", "dark"])
@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_is_as_it_was(name, ground):
    stored = squares(IMAGES / f"{name}_{ground}.png")
    found = squares(drawn(name, ground))
    assert found.shape == stored.shape
    difference = np.sqrt(np.mean((found - stored) ** 2))
    assert difference < TOLERANCE
    empty = np.full_like(stored, np.median(stored))
    assert np.sqrt(np.mean((empty - stored) ** 2)) > 2 * TOLERANCE


def test_every_function_has_its_picture():
    words = {"SVG", "computational_graph", "dead_fractions", "saturated_fractions"}
    assert set(plot.__all__) - words <= set(PICTURES)


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


# Learning curves ---------------------------------------------------------------------------------


def test_training_loss_stands_at_the_middle_of_its_epoch():
    figure = plot.learning_curves(curves()["slow"])
    loss, accuracy, rate = figure.axes
    assert [line.get_xdata()[0] for line in loss.lines[:2]] == [0.5, 1.0]
    assert accuracy.lines[0].get_xdata()[0] == 1.0
    assert rate.lines[0].get_xdata()[0] == 0.0
    assert legend(loss) == ["training", "validation", "best: 0.2673, epoch 20"]
    assert legend(accuracy) == ["training"]


def test_several_trainings_share_a_picture():
    runs = curves()
    figure = plot.learning_curves(runs, quantities=["loss"])
    (ax,) = figure.axes
    assert legend(ax)[0] == "slow"
    assert legend(ax)[-1] == "training"
    listed = plot.learning_curves(list(runs.values()), quantities=["accuracy"])
    assert legend(listed.axes[0]) == ["run 1", "run 2"]
    histories = {"one": trained()[3], "other": trained()[3]}
    assert len(plot.learning_curves(histories).axes) == 3


def test_axes_that_are_given_are_drawn_on():
    history = trained()[3]
    figure, axes = plt.subplots(1, 3)
    assert history.plot(ax=axes) is figure
    assert [ax.get_ylabel() for ax in axes] == ["loss", "accuracy", "learning rate"]
    ax = plt.subplots()[1]
    assert plot.learning_curves(history, ax=ax) is ax.figure
    assert ax.get_ylabel() == "loss"
    with pytest.raises(ValueError, match="ax: expected 3 axes, one for each panel, got 2"):
        plot.learning_curves(history, ax=axes[:2])
    plot.activations(["relu"], ax=plt.subplots()[1])
    plot.layer_activations(trained()[0], trained()[1], ax=plt.subplots(1, 2)[1])
    for draw in (
        partial(plot.optimizer_paths, bowl, paths()), partial(plot.path_losses, bowl, paths()),
        partial(plot.dead_units, *trained()[:2]), partial(plot.decision_boundary, *trained()[:3]),
    ):  # fmt: skip
        ax = plt.subplots()[1]
        assert draw(ax=ax) is ax


def test_what_learning_curves_refuse():
    with pytest.raises(ValueError, match="history: expected at least one quantity"):
        plot.learning_curves({})
    with pytest.raises(TypeError, match="history: expected a History, got"):
        plot.learning_curves(3)
    with pytest.raises(TypeError, match=r"history\['a'\]: expected a History"):
        plot.learning_curves({"b": trained()[3], "a": [1.0]})
    with pytest.raises(ValueError, match="quantities: expected 'loss'"):
        plot.learning_curves(curves()["slow"], quantities=["los"])


def test_norms_are_recorded_at_each_step():
    model, _, _, _, record = trained()
    assert record.steps == list(range(1, 61))
    assert list(record.parameters) == [p.name for p in model.parameters()]
    last = [float(np.linalg.norm(p.data)) for p in model.parameters()]
    assert [values[-1] for values in record.parameters.values()] == last
    assert all(np.isfinite(values).all() for values in record.gradients.values())
    with pytest.raises(ValueError, match="record: expected the norms of a training"):
        plot.norms(callbacks.Norms())
    with pytest.raises(ValueError, match="every"):
        callbacks.Norms(every=0)


def test_schedules_have_short_names():
    assert legend(several_schedules()) == [
        "exponential_decay(0.1, 0.01)", "step_decay(0.1, 0.5, 50)",
        "warmup(cosine_decay(0.1, 150), 50)",
    ]  # fmt: skip
    ax = plot.schedule_values(lambda step: 1.0, 10)
    ax = plot.schedule_values(schedules.constant(0.5), 10, ax, label="mine")
    ax = plot.schedule_values({"a": lambda step: step, "b": lambda step: -step}, 10, ax)
    assert legend(ax) == ["schedule", "mine", "a", "b"]
    looks = {(line.get_color(), line.get_linestyle()) for line in ax.lines}
    assert len(looks) == 4


# Surfaces ----------------------------------------------------------------------------------------


def test_paths_that_diverge_are_cut_off():
    far = [(-3.0 * 10.0**t, 10.0**t) for t in range(150)]  # to 1e149, where the loss is infinite
    lost = [(-3.0, 1.0), (np.inf, 0.0), (-2.0, 0.5)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ax = plot.optimizer_paths(bowl, {"far": far, "lost": lost, "SGD": paths()["SGD"]})
        plot.path_losses(bowl, {"far": far, "lost": lost})
        ax.figure.canvas.draw()
        plot.optimizer_paths(bowl, {"far": far})
        plot.surface(bowl, (-1, 1), (-1, 1), {"far": far})
    assert legend(ax) == ["far: leaves at step 1", "lost: leaves at step 1", "SGD"]
    assert np.ptp(ax.get_xlim()) < 20
    assert np.ptp(ax.get_ylim()) < 20


def test_what_paths_refuse():
    with pytest.raises(ValueError, match="paths: expected at least one path"):
        plot.optimizer_paths(bowl, {})
    with pytest.raises(ValueError, match=r"paths: expected shape \(points, 2\) for 'a'"):
        plot.optimizer_paths(bowl, {"a": [1.0, 2.0]})
    with pytest.raises(ValueError, match="surfaces: expected at least one"):
        plot.optimizer_comparison({})


def test_a_flat_surface_can_be_drawn():
    ax = plot.optimizer_paths(lambda x, y: 0 * x, {"a": [(0.0, 0.0), (1.0, 1.0)]})
    ax.figure.canvas.draw()


def test_a_moving_picture_is_960_pixels_wide():
    moving, writer = plot.optimizer_animation(bowl, paths(), frames=3), _NoFile()
    moving.save("nowhere", writer=writer)
    assert writer.sizes == {(960, 540)}


# Layers ------------------------------------------------------------------------------------------


def test_gradients_by_layer_leave_the_model_as_it_is():
    model = fastnn.Sequential(
        fastnn.Linear(20, 8), fastnn.BatchNorm1d(8), fastnn.Tanh(), fastnn.Dropout(0.5),
        fastnn.Linear(8, 2), rng=0,
    )  # fmt: skip
    x, y = X20.astype(np.float32), np.arange(200) % 2
    trainer = fastnn.Trainer(model, "cross_entropy", None)
    trainer.step(x, y)
    before = model.state_dict(), model.get_flat_grad(), model[3].random_state.copy()
    figure = plot.layer_gradients(model, "cross_entropy", x, y)
    assert [ax.get_title() for ax in figure.axes] == ["2 Tanh"]
    figure = plot.layer_activations(model, x, kinds=(fastnn.Linear, fastnn.BatchNorm1d))
    assert [ax.get_title() for ax in figure.axes] == ["0 Linear", "1 BatchNorm1d", "4 Linear"]
    after = model.state_dict(), model.get_flat_grad(), model[3].random_state.copy()
    assert all((before[0][key] == after[0][key]).all() for key in before[0])
    assert (before[1] == after[1]).all()
    assert (before[2] == after[2]).all()
    with pytest.raises(ValueError, match="kinds: expected layers of the model"):
        plot.layer_activations(model, x, kinds=fastnn.LSTM)


def test_the_gradients_by_layer_are_those_of_differences():
    model = fastnn.Sequential(fastnn.Linear(2, 3), fastnn.Tanh(), fastnn.Linear(3, 1),
                              dtype="float64", rng=0)  # fmt: skip
    from fastnn.plot.layers import _by_layer

    x, y = np.ones((1, 2)), np.zeros((1, 1))
    values, gradients = _by_layer(model, x, fastnn.Tanh, fastnn.losses.mse, y)
    last = model[2].weight.data
    out = model(x)
    np.testing.assert_allclose(gradients["1 Tanh"], 2 * out * last, rtol=1e-12)
    np.testing.assert_allclose(values["1 Tanh"] @ last.T + model[2].bias.data, out, rtol=1e-12)


def test_saturation_is_told_by_the_slope():
    model = fastnn.Sequential(fastnn.Sigmoid(), fastnn.Tanh(), rng=0)
    found = plot.saturated_fractions(model, [[-9.0, 0.0], [9.0, 1.0]])
    assert found == {"0": 0.5, "1": 0.0}
    with pytest.raises(ValueError, match="at least one Sigmoid or Tanh"):
        plot.saturated_units(fastnn.Sequential(fastnn.Linear(2, 2), rng=0), np.ones((2, 2)))


def test_who_can_have_a_boundary():
    model, x, y, _, _ = trained()
    one = fastnn.Sequential(fastnn.Linear(2, 1), rng=0)
    for thing in (model, fastnn.Trainer(model, "cross_entropy", None), one,
                  lambda points: (points[:, 0] > 0).astype(int)):  # fmt: skip
        plot.decision_boundary(thing, x, y, resolution=10)
    with pytest.raises(ValueError, match=r"x: expected shape \(samples, 2\)"):
        plot.decision_boundary(model, x[:, :1], y)
    with pytest.raises(ValueError, match="labels: expected shape"):
        plot.decision_boundary(model, x, y[:3])
    with pytest.raises(TypeError, match="model: expected a model or a function"):
        plot.decision_boundary(3, x, y)


def test_the_settings_of_matplotlib_stay():
    before = dict(matplotlib.rcParams)
    trained()[3].plot()
    assert dict(matplotlib.rcParams) == before


if __name__ == "__main__":
    IMAGES.mkdir(exist_ok=True)
    for name in PICTURES:
        for ground in ("light", "dark"):
            (IMAGES / f"{name}_{ground}.png").write_bytes(drawn(name, ground).getvalue())
