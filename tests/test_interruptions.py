"""Ctrl-C and handlers of signals that raise: training stops after whole steps, and can go on."""

import os
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import fastnn

X = np.random.default_rng(0).normal(size=(24, 4)).astype("f")
Y = X[:, :2].copy()
FOLDER = os.path.dirname(fastnn.__file__)
needs_signals = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs SIGALRM")


class Stop(BaseException):
    """What a handler raises."""


def squares(pred, y):
    return float(np.square(pred - y).mean()), 2 * (pred - y) / pred.size


def make(loss="mse", rng=0, width=5, **options):
    model = fastnn.Sequential(
        fastnn.Linear(4, width), fastnn.BatchNorm1d(width), fastnn.Dropout(0.2),
        fastnn.Linear(width, 2),
        rng=rng,
    )  # fmt: skip
    optimizer = fastnn.optim.Adam(model.parameters(), lr=0.01)
    return fastnn.Trainer(model, loss, optimizer, **options)


def make_stateful(loss="mse", **options):
    model = fastnn.Sequential(fastnn.LSTM(4, 3), fastnn.Linear(3, 2), rng=0)
    optimizer = fastnn.optim.Adam(model.parameters(), lr=0.01)
    return fastnn.Trainer(model, loss, optimizer, stateful=True, **options)


def state(trainer):
    arrays = [*trainer.model.state_dict().values()]
    arrays += [a for a in trainer._carried.states.values() if a.any()]  # 0 is where it begins
    waiting = [a.tobytes() for a in trainer._accumulation.sums.values()]
    masks = [layer._random_state.tobytes() for _, layer in trainer.model._layers()
             if layer._random_state is not None]  # fmt: skip
    return trainer.optimizer.t, *(a.tobytes() for a in arrays), *masks, *waiting


def is_open(lock):
    """Whether no other thread than this has a lock."""
    if opened := lock.acquire(False):
        lock.release()
    return opened


def train(trainer, callbacks=()):
    trainer.fit(X, Y, epochs=2, batch_size=8, rng=1, progress=False, callbacks=callbacks)


# From 3.14 on a profile function is called between __enter__ and the block of `with`, and leaves a
# lock taken if it raises. So are handlers in 3.14, but not in 3.15.
UNSAFE_WITH = sys.version_info >= (3, 14)


class Interrupt:
    """Raises at the n-th place where Python would call a handler: at a call, or after one in C."""

    def __init__(self, n):
        self.left, self.raised = n, False

    def __call__(self, frame, event, argument):
        if UNSAFE_WITH and event == "c_return" and argument.__name__ == "__enter__":
            return
        if event in ("call", "c_return") and frame.f_code.co_filename.startswith(FOLDER):
            self.left -= 1
            if self.left == 0:
                sys.setprofile(None)
                self.raised = True
                raise Stop

    def run(self, function):
        sys.setprofile(self)
        try:
            function()
        except Stop:
            pass
        finally:
            sys.setprofile(None)
        return self.raised


ends_generators = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)


@ends_generators
@pytest.mark.parametrize(
    "options", [{}, {"loss": squares}, {"accumulate": 2}, {"clip_norm": 0.1, "l2": 0.1}], ids=str
)
def test_an_interrupted_fit_is_of_whole_steps(options):
    """Wherever it is interrupted, and locks are open afterwards."""
    whole, places = [], 0

    def note(epoch, logs):
        whole.append(state(trainer))

    class Steps(fastnn.callbacks.Callback):
        def on_batch_end(self, step, loss):
            whole.append(state(trainer))

    trainer = make(**options)
    trainer.model.parameters()
    whole.append(state(trainer))
    train(trainer, [note, Steps()])
    counter = Interrupt(-1)
    trainer = make(**options)
    counter.run(lambda: train(trainer))
    places = -1 - counter.left
    assert places > 100
    for place in range(1, places, 1 + places // 60):
        trainer = make(**options)
        trainer.model.parameters()
        if not Interrupt(place).run(lambda t=trainer: train(t)):
            continue
        assert state(trainer) in whole, place
        assert isinstance(trainer.history, fastnn.History)
        with ThreadPoolExecutor(1) as other:
            assert np.isfinite(other.submit(trainer.step, X, Y).result())


@ends_generators
@pytest.mark.parametrize(
    "options", [{}, {"loss": squares}, {"accumulate": 2}, {"clip_norm": 0.1}], ids=str
)
def test_sequences_go_on_from_the_last_whole_step(options):
    """Weights and carried states are of the same step, wherever it is interrupted."""
    windows = X.reshape(4, 2, 3, 4), Y.reshape(4, 2, 3, 2)

    def train(trainer):
        for x, y in zip(*windows, strict=True):
            trainer.step(x, y)
            yield

    whole = []
    trainer = make_stateful(**options)
    for _ in train(trainer):
        whole.append(state(trainer))
    assert len(set(whole)) == 4
    for place in range(1, 10**6):
        trainer = make_stateful(**options)
        steps = train(trainer)
        next(steps)
        if not Interrupt(place).run(lambda s=steps: list(s)):
            break
        assert state(trainer) in whole, place
    assert place > 20


@ends_generators
def test_sequences_of_an_interrupted_fit_go_on_from_whole_steps():
    x, y = X.reshape(8, 3, 4), Y.reshape(8, 3, 2)
    given = {"epochs": 1, "batch_size": 2, "shuffle": False, "progress": False}
    whole = []

    class Steps(fastnn.callbacks.Callback):
        def on_batch_end(self, step, loss):
            whole.append(state(trainer))

    trainer = make_stateful()
    trainer.fit(x, y, **given)
    trainer.reset_state()
    whole.append(state(trainer))
    trainer.fit(x, y, callbacks=[Steps()], **given)
    assert len(set(whole)) == 5
    found = set()
    for place in range(1, 10**6, 2):
        trainer = make_stateful()
        trainer.fit(x, y, **given)
        trainer.reset_state()
        if not Interrupt(place).run(lambda t=trainer: t.fit(x, y, **given)):
            break
        found.add(state(trainer))
        assert state(trainer) in whole, place
    assert len(found) > 2


@ends_generators
def test_an_interrupted_analysis_leaves_the_model_as_it_was():
    trainer = make()
    trainer.step(X, Y)
    before = state(trainer)
    for place in range(1, 10**6, 5):
        if not Interrupt(place).run(
            lambda: fastnn.analysis.dominant_eigenvalue(
                trainer.model, "mse", X, Y, iterations=3, tol=1e6, rng=0
            )
        ):
            break
        assert state(trainer) == before, place
        with ThreadPoolExecutor(1) as other:
            assert other.submit(is_open, trainer.model._lock).result()
    assert place > 50


def used_alone():
    """Return a model of layers that have locks of their own, having been used alone."""
    layers = [fastnn.Linear(4, 3, rng=0), fastnn.Tanh(), fastnn.Linear(3, 2, rng=1)]
    layers[0](X), layers[2](X[:, :3])
    return fastnn.Sequential(*layers)


@ends_generators
def test_several_locks_are_taken_together_or_not_at_all():
    places = 0
    for place in range(1, 10**6):
        model = used_alone()
        if not Interrupt(place).run(lambda m=model: m(X)):
            break
        places += 1
        with ThreadPoolExecutor(1) as other:
            locks = {layer._lock for layer in (model[0], model[2])}
            assert all(other.submit(is_open, lock).result() for lock in locks)
    assert places > 5


@needs_signals
def test_a_handler_that_raises_while_several_locks_are_waited_for(alarm):
    """Those that have been taken by then are open again."""
    model = used_alone()
    model(X)
    locks = sorted({layer._lock for layer in (model[0], model[2])}, key=id)
    held, done = threading.Event(), threading.Event()

    def hold():
        with locks[-1]:
            held.set()
            done.wait()

    with ThreadPoolExecutor(1) as other:
        holding = other.submit(hold)
        held.wait()
        alarm()
        with pytest.raises(Stop):
            model(X)
        with ThreadPoolExecutor(1) as third:
            assert third.submit(is_open, locks[0]).result()
        done.set()
        holding.result()


def failing(hook, trainer):
    """Return a callback one of whose methods raises after three steps."""
    def fail(self, *arguments):
        if trainer.optimizer.t >= 3 + (hook in ("on_batch_end", "on_epoch_end")):
            raise Stop

    return type("Fails", (fastnn.callbacks.Callback,), {hook: fail})()


@pytest.mark.parametrize(
    ("hook", "steps", "epochs"),
    [("on_epoch_begin", 3, 1), ("on_batch_end", 4, 1), ("on_epoch_end", 6, 2), ("metric", 6, 1),
     ("schedule", 3, 1), ("loss", 3, 1), ("on_train_end", 6, 2)],
)  # fmt: skip
def test_what_a_function_of_the_user_raises_ends_a_fit_after_a_whole_step(hook, steps, epochs):
    """In the second epoch; the history is there, and the model can be trained on."""
    def metric(y_true, y_pred):
        if trainer.optimizer.t == 6:
            raise Stop
        return 0.0

    def schedule(step):
        if step >= 3:
            raise Stop
        return 0.01

    def loss(pred, y):
        if trainer.optimizer.t == 3:
            raise Stop
        return squares(pred, y)

    def new(functions):
        made = make(loss if hook == "loss" and functions else squares if hook == "loss" else "mse")
        if hook == "schedule" and functions:
            made.optimizer.lr = schedule
        return made

    options = {"batch_size": 8, "rng": 1, "progress": False}
    trainer = whole = new(False)
    whole.fit(X, Y, epochs=1, **options)
    trainer = new(True)
    given = {"metrics": [metric]} if hook == "metric" else {}
    if hook.startswith("on_"):
        given = {"callbacks": [failing(hook, trainer)]}
    with pytest.raises(Stop):
        trainer.fit(X, Y, epochs=2, **options, **given)
    assert trainer.optimizer.t == steps
    assert len(trainer.history.history["loss"]) == epochs
    if steps == 3:
        assert state(trainer) == state(whole)
    trainer.optimizer.lr = 0.01
    trainer.optimizer.t = 10
    assert np.isfinite(trainer.step(X, Y))


@pytest.fixture
def alarm():
    """Return a function that lets a handler raise soon, and the error that it raises."""
    def ring(*arguments):
        raise Stop

    before = signal.signal(signal.SIGALRM, ring)
    yield lambda: signal.setitimer(signal.ITIMER_REAL, 0.05)
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


STEPS = 25_000
BIG = np.zeros((4 * STEPS, 4), np.float32), np.zeros((4 * STEPS, 2), np.float32)


@needs_signals
@pytest.mark.parametrize("loss", ["mse", squares], ids=str)
def test_a_handler_that_raises_ends_a_fit(loss, alarm):
    trainer = make(loss)
    alarm()
    with pytest.raises(Stop):
        trainer.fit(*BIG, epochs=10**9, batch_size=4, progress=False)
    assert trainer.optimizer.t > 0
    assert np.isfinite(trainer.step(X, Y))
    assert len(trainer.history.history.get("loss", [])) <= trainer.optimizer.t // STEPS


@pytest.fixture
def ctrl_c():
    """Make Ctrl-C count, which is ignored in a process in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield lambda: signal.raise_signal(signal.SIGINT)
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_ends_a_fit(ctrl_c):
    """After an epoch, which is in the history."""
    trainer = make()

    def press(epoch, logs):
        if epoch == 1:
            ctrl_c()

    with pytest.raises(KeyboardInterrupt):
        trainer.fit(X, Y, epochs=1000, callbacks=[press], progress=False)
    assert len(trainer.history.history["loss"]) == 2
    assert np.isfinite(trainer.step(X, Y))


@needs_signals
@pytest.mark.parametrize("count", [1, 2])
def test_a_handler_that_raises_ends_fit_many(count, alarm):
    """Within an epoch that would last much longer."""
    before = fastnn.get_num_threads()
    fastnn.set_num_threads(count)
    several = [make(rng=seed, width=300) for seed in range(3)]
    try:
        alarm()
        with pytest.raises(Stop):
            fastnn.fit_many(several, *BIG, epochs=10**9, batch_size=4)
    finally:
        fastnn.set_num_threads(before)
    assert several[0].optimizer.t % STEPS  # not at the end of an epoch
    assert not several[2].optimizer.t
    for trainer in several:
        trainer.fit(X, Y, epochs=1, progress=False)
        assert len(trainer.history.history["loss"]) == 1


@needs_signals
def test_a_handler_that_raises_ends_the_solvers(alarm):
    def model():
        return fastnn.Sequential(
            fastnn.Linear(4, 8), fastnn.Tanh(), fastnn.Linear(8, 2), dtype="float64", rng=0
        )

    x = np.random.default_rng(0).normal(size=(500, 4))
    y = np.random.default_rng(1).normal(size=(500, 2))
    again = {}  # the callback keeps them from ending by themselves
    for solver in (fastnn.solvers.lbfgs, fastnn.solvers.levenberg_marquardt):
        one = model()
        arguments = (one, "mse", x, y) if solver is fastnn.solvers.lbfgs else (one, x, y)
        first = float(np.square(one(x) - y).mean())

        def wait(iteration, loss):
            while iteration == 3:
                again[iteration] = loss

        alarm()
        with pytest.raises(Stop):
            solver(*arguments, callback=wait)
        assert float(np.square(one(x) - y).mean()) == pytest.approx(again.pop(3))
        assert float(np.square(one(x) - y).mean()) < first
    alarm()
    with pytest.raises(Stop):
        fastnn.optim.minimize(lambda v: (float(v @ v), 2 * v), np.ones(3), max_iter=10**9)
