"""What data-parallel training costs on many nodes: the model of docs/distributed.md.

    mpiexec -n 2 python bench/distributed.py --json measured.json
    python bench/cost_model.py measured.json [picture.svg]

An Allreduce of n bytes over P nodes takes 2 ⌈log₂ P⌉ α + 2 (P-1)/P n / bandwidth. α and the
bandwidth between two ranks here are fitted to what bench/distributed.py has measured, and so is the
rate of a core; what is said of networks and nodes is assumed, and stands in NETWORKS and CORES.
"""

import json
import sys
from math import ceil, log2

import numpy as np

NETWORKS = {"10 Gbit/s": (20e-6, 1.25e9), "100 Gbit/s": (2e-6, 12.5e9)}  # α in s, bytes per second
CORES = 16  # of a node
NODES = 8, 64, 512
MODELS = {  # parameters; the last bucket, which nothing is left to hide, is the first layer's
    "784-1024-1024-10": (1_863_690, 803_840),
    "64-128-128-10": (26_122, 26_122),
    "10 million, 8 layers": (10_000_000, 1_250_000),
}
STEP = 1_863_690, 512  # parameters and samples of the step that was measured


def allreduce(bytes_, nodes, latency, bandwidth):
    """Seconds of the sum of an array over nodes."""
    return 2 * ceil(log2(nodes)) * latency + 2 * (nodes - 1) / nodes * bytes_ / bandwidth


def efficiency(model, batch, nodes, network, rate):
    """Share of the nodes' time that is not spent waiting for the network."""
    parameters, last = MODELS[model]
    compute = 6 * parameters * batch / rate
    # four of six operations are backward, and those of the last bucket come after all others
    free = compute * 4 / 6 * (1 - last / parameters)
    seen = allreduce(4 * last, nodes, *NETWORKS[network])
    if last < parameters:
        seen += max(0, allreduce(4 * (parameters - last), nodes, *NETWORKS[network]) - free)
    seen += 2 * allreduce(16, nodes, *NETWORKS[network])  # the weights of the batch, and its loss
    return compute / (compute + seen)


def fit(messages):
    """Return α and the bandwidth that come closest to measured times, by their logarithms."""
    sizes, times = (np.array(list(part), float) for part in (messages.keys(), messages.values()))
    grid = [(a, b) for a in np.geomspace(1e-7, 1e-4, 80) for b in np.geomspace(1e8, 1e11, 80)]
    wrong = [np.square(np.log((2 * a + sizes / b) / times)).sum() for a, b in grid]
    return grid[int(np.argmin(wrong))]


def picture(path, rate):
    import matplotlib.pyplot as plt

    batches = np.geomspace(16, 8192, 60)
    figure, panels = plt.subplots(1, 3, figsize=(11, 3.6), sharey=True, layout="constrained")
    for panel, model in zip(panels, MODELS, strict=True):
        for network, style in zip(NETWORKS, ("--", "-"), strict=True):
            for i, nodes in enumerate(NODES):
                shares = [efficiency(model, batch, nodes, network, rate) for batch in batches]
                panel.plot(batches, shares, style, color=f"C{i}", label=f"{nodes} nodes, {network}")
        panel.set_xscale("log", base=2)
        panel.set_title(model)
        panel.set_xlabel("samples of a batch per node")
    panels[0].set_ylabel("speed / (nodes × speed of one)")
    panels[-1].legend(fontsize=7)
    figure.savefig(path)


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as file:
        measured = json.load(file)
    latency, bandwidth = fit({int(n): t for n, t in measured["messages"].items()})
    core = 6 * STEP[0] * STEP[1] / measured["step"]["alone"]
    print(f"two ranks here: α = {latency * 1e6:.1f} µs, {bandwidth / 1e9:.2f} GB/s")
    for n, t in measured["messages"].items():
        model = 2 * latency + int(n) / bandwidth
        print(f"  {n:>9} bytes: {t * 1e6:9.1f} µs, model {model * 1e6:9.1f}")
    node = CORES * core / 1e12
    print(f"one core: {core / 1e9:.0f} GFLOP/s; a node of {CORES}: {node:.2f} TFLOP/s")
    for batch in (64, 512, 4096):
        for model in MODELS:
            for network in NETWORKS:
                shares = [efficiency(model, batch, n, network, CORES * core) for n in NODES]
                print(f"| {model} | {batch} | {network} | "
                      + " | ".join(f"{share:.0%}" for share in shares) + " |")  # fmt: skip
    for network, (_, speed) in NETWORKS.items():
        batch = 8 / speed * CORES * core / 6
        print(f"{network}: sums take as long as products at {batch:.0f} samples per node")
    if len(sys.argv) > 2:
        picture(sys.argv[2], CORES * core)
