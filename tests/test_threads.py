"""Threads of a user's own, forked and spawned processes, and the end of the interpreter."""

import os
import subprocess
import sys
import sysconfig
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import fastnn

X = np.random.default_rng(0).normal(size=(256, 30)).astype("f")
Y = X[:, :5].copy()


def make(rng=0):
    model = fastnn.Sequential(
        fastnn.Linear(30, 64), fastnn.BatchNorm1d(64), fastnn.Tanh(), fastnn.Dropout(0.1),
        fastnn.Linear(64, 5), rng=rng,
    )  # fmt: skip
    return fastnn.Trainer(model, "mse", fastnn.optim.Adam(model.parameters(), lr=0.01))


def train(trainer):
    trainer.fit(X, Y, epochs=20, batch_size=32, rng=0, progress=False)
    return trainer.model.get_flat().tobytes()


@pytest.mark.parametrize("count", [1, 2])
def test_trainers_in_threads_are_as_one_after_the_other(count, threads):
    threads(count)
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(train, [make(seed) for seed in range(3)]))
    assert together == [train(make(seed)) for seed in range(3)]


@pytest.mark.parametrize("count", [1, 2])
def test_a_model_is_used_by_one_thread_at_a_time(count, threads):
    """Steps of one trainer from several threads are steps one after the other."""
    threads(count)
    trainer, twin = make(), make()
    with ThreadPoolExecutor(4) as pool:
        losses = list(pool.map(lambda _: trainer.step(X, Y), range(40)))
    assert sorted(losses) == sorted(twin.step(X, Y) for _ in range(40))
    assert trainer.optimizer.t == 40
    assert trainer.model.get_flat().tobytes() == twin.model.get_flat().tobytes()


def test_predictions_while_another_thread_trains():
    """Each is of the weights after some step."""
    trainer, twin = make(), make()
    known = {twin.predict(X).tobytes()}
    for _ in range(60):
        twin.step(X, Y)
        known.add(twin.predict(X).tobytes())
    thread = threading.Thread(target=lambda: [trainer.step(X, Y) for _ in range(60)])
    thread.start()
    while thread.is_alive():
        assert trainer.model(X).tobytes() in known
    thread.join()


START = """
import os, signal, sys, threading, time
import numpy as np, fastnn
from fastnn._kernels import core
core.share("always")
fastnn.set_num_threads(2)
x = np.random.default_rng(0).normal(size=(256, 30)).astype("f")
y = x[:, :5].copy()

class Identity(fastnn.Layer):
    def forward(self, x, training=False):
        return x
    def backward(self, dy, accumulate=False):
        return dy

def make(layer=fastnn.Tanh):
    model = fastnn.Sequential(fastnn.Linear(30, 64), layer(), fastnn.Linear(64, 5), rng=0)
    return fastnn.Trainer(model, "mse", fastnn.optim.Adam(model.parameters(), lr=0.01))

def train(trainer, epochs=3):
    trainer.fit(x, y, epochs=epochs, batch_size=32, rng=0, progress=False)
    return trainer.model.get_flat().tobytes()

def check_child(child):
    status = os.waitpid(child, 0)[1]
    assert status == 0, status
"""


def run(code, expect="", **options):
    done = subprocess.run([sys.executable, "-c", START + code], capture_output=True, text=True,
                          timeout=120, **options)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert expect in done.stdout + done.stderr
    return done


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


@needs_fork
@pytest.mark.parametrize("layer", ["fastnn.Tanh", "Identity"])
def test_a_fork_while_another_thread_trains(layer):
    """The child finds all locks open and computes on one thread, on more if it wants."""
    run(f"""
expected = train(make({layer}))
busy, more = make({layer}), make({layer})
thread = threading.Thread(target=lambda: train(busy, 10**9), daemon=True)
thread.start()
while busy.optimizer.t == 0:
    time.sleep(0.001)
for _ in range(5):
    child = os.fork()
    if child == 0:
        signal.alarm(60)  # ends a child that hangs
        right = fastnn.get_num_threads() == 1 and train(make({layer})) == expected
        fastnn.set_num_threads(2)
        right = right and fastnn.get_num_threads() == 2 and train(make({layer})) == expected
        busy.step(x, y)
        right = right and np.isfinite(busy.step(x, y)) and np.isfinite(more.model(x)).all()
        os._exit(not right)
    check_child(child)
os._exit(0)
""")


@needs_fork
def test_threads_of_a_forked_child_have_threads_again():
    run("""
expected = train(make())
child = os.fork()
if child == 0:
    signal.alarm(60)
    found = []
    def work():
        fastnn.set_num_threads(2)
        found.append((fastnn.get_num_threads(), train(make())))
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    os._exit(found != [(2, expected)])
check_child(child)
""")


def test_spawned_processes_compute_the_same(tmp_path):
    (tmp_path / "work.py").write_text(START + """
def work(trainer):
    return train(trainer)

if __name__ == "__main__":
    import multiprocessing
    expected = train(make())
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.map(work, [make()]) == [expected]
""")
    subprocess.run([sys.executable, tmp_path / "work.py"], check=True, timeout=120)


@pytest.mark.parametrize("layer", ["fastnn.Tanh", "Identity"])
def test_the_interpreter_ends_while_a_daemon_thread_trains(layer):
    run(f"""
trainer = make({layer})
threading.Thread(target=lambda: train(trainer, 10**9), daemon=True).start()
while trainer.optimizer.t == 0:
    time.sleep(0.001)
print("end")
""", "end")


def test_the_interpreter_waits_for_a_thread_that_trains():
    run("""
trainer = make()
def work():
    train(trainer)
    print("trained", trainer.optimizer.t)
threading.Thread(target=work).start()
""", "trained 24")


def test_training_at_the_end_of_the_interpreter():
    run("""
import atexit
trainer = make()
atexit.register(lambda: print(len(train(trainer)), "bytes"))
class Last:
    def __del__(self):
        trainer.step(x, y)
        print("last step")
last = Last()
""", "bytes")


def test_a_subinterpreter_is_refused():
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", """
try:
    import _interpreters as interpreters
    create = lambda: interpreters.create("legacy")
    run = interpreters.exec
except ImportError:
    import _xxsubinterpreters as interpreters
    create = lambda: interpreters.create(isolated=False)
    run = interpreters.run_string
run(create(), '''
try:
    import fastnn
except ImportError as error:
    print(error, flush=True)
''')
"""], capture_output=True, text=True, timeout=60)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "expected the main interpreter" in done.stdout or "load" in done.stdout


# Without the interpreter's lock ------------------------------------------------------------------


@pytest.mark.skipif(
    not sysconfig.get_config_var("Py_GIL_DISABLED"), reason="needs a free-threaded Python"
)
def test_the_import_leaves_the_interpreter_without_its_lock():
    code = """
import fastnn, importlib, pkgutil, sys
for module in pkgutil.iter_modules(fastnn._kernels.__path__, "fastnn._kernels."):
    importlib.import_module(module.name)
assert not sys._is_gil_enabled()
"""
    variables = {name: value for name, value in os.environ.items() if name != "PYTHON_GIL"}
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=variables)
    assert done.returncode == 0, done.stderr


def at_once(work, count=4):
    """Return what `work` gives for 0, 1, ... in threads that begin together."""
    barrier = threading.Barrier(count)

    def begin(i):
        barrier.wait()
        return work(i)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(begin, range(count)))


def test_a_predictor_answers_threads_with_batches_and_shapes_of_their_own():
    model = fastnn.Sequential(fastnn.LSTM(3, 4), fastnn.Linear(4, 2), rng=0)
    inputs = [np.ones((1 + i, 1 + i % 3, 3), "f") for i in range(4)]
    expected = [model(x).tobytes() for x in inputs]
    for _ in range(5):
        p = model.predictor()
        answers = at_once(lambda i, p=p: {p(inputs[i]).tobytes() for _ in range(200)})
        assert answers == [{right} for right in expected]


def test_a_stream_answers_one_thread_or_raises():
    model = fastnn.Sequential(fastnn.Linear(30, 64), fastnn.Linear(64, 5), rng=0)
    stream, x = model.stream(256), X
    right = stream(x).tobytes()

    def call(i):
        refused = 0
        for _ in range(300):
            try:
                y = stream(x)
            except RuntimeError:
                refused += 1
            else:
                assert y.tobytes() == right
        return refused

    assert sum(at_once(call)) < 4 * 300


def test_functions_on_arrays_from_threads():
    rng = np.random.default_rng(0)
    weight, bias = rng.normal(size=(40, 30)).astype("f"), np.zeros(40, "f")
    right = fastnn.ops.linear(X, weight, bias).tobytes()
    found = at_once(lambda i: {fastnn.ops.linear(X, weight, bias).tobytes() for _ in range(300)})
    assert found == [{right}] * 4


def test_a_model_is_built_once_by_the_threads_that_use_it_first():
    for _ in range(20):
        model = make().model
        answers = at_once(lambda i, model=model: (model(X).tobytes(), model._model))
        assert len({answer for answer, _ in answers}) == 1
        assert len({id(built) for _, built in answers}) == 1


def test_all_who_begin_to_watch_at_once_learn_of_changes():
    model = make().model
    model.build()
    trainers = at_once(
        lambda i: [fastnn.Trainer(model, "mse", fastnn.optim.SGD(model.parameters(), lr=0.1))
                   for _ in range(10)]
    )  # fmt: skip
    trainers = [trainer for each in trainers for trainer in each]
    for trainer in trainers:
        trainer.step(X, Y)
    model.freeze()
    before = model.get_flat().tobytes()
    for trainer in trainers:
        trainer.step(X, Y)
    assert model.get_flat().tobytes() == before


def test_hyper_parameters_are_changed_while_another_thread_steps():
    p, grad = np.zeros(3, "f"), np.ones(3, "f")
    optimizer = fastnn.optim.SGD([p], lr=1.0)

    def work(i):
        for k in range(300):
            if i == 0:
                optimizer.step([grad])
            elif i == 1:
                optimizer.groups[0]["lr"] = 1.0 + k % 2
            else:
                optimizer.lr = 1.0 + k % 2

    at_once(work, 3)
    assert optimizer.t == 300
    assert -600 <= p[0] <= -300
