"""Pictures of the results."""

from pathlib import Path

from bench.report import LIBRARIES, section

# Okabe and Ito's colours, which everybody can tell apart, as in fastnn.plot
COLOURS = {
    "fastnn": "#0072B2", "jax": "#E69F00", "numpy": "#009E73", "torch": "#D55E00",
    "torch.compile": "#CC79A7",
}  # fmt: skip


def step_time(results: dict, path: Path) -> bool:
    """Draw the time of a training step against the width of its layers, if it was measured."""
    found = section(results, "widths")
    if found is None:
        return False
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    rows = found["rows"]
    widths = [int(row["case"].split("-")[0]) for row in rows]
    figure, axes = plt.subplots(figsize=(7, 4.4), layout="constrained")
    for name, colour in COLOURS.items():
        times = [1e6 * row["values"][name] for row in rows if name in row["values"]]
        if len(times) == len(rows):
            ours = name == "fastnn"
            axes.plot(
                widths, times, marker="o", color=colour, label=LIBRARIES.get(name, name),
                linewidth=1 + ours, markersize=3 + ours, zorder=2 + ours,
            )  # fmt: skip
    limits = [1e6 * row["limit"] for row in rows]
    axes.plot(widths, limits, "--", color="0.5", linewidth=1, label="limit of the machine")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(widths, [f"{width:,}" for width in widths])
    axes.minorticks_off()
    axes.set_xlabel("width of the layers")
    axes.set_ylabel("microseconds")
    axes.set_title("A training step of three square layers on 64 samples, one thread", fontsize=10)
    axes.grid(color="0.92")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150)
    plt.close(figure)
    return True
