"""Train an LSTM on a distorted signal, and run it as a C program on sound.

    pip install ".[examples]" && python examples/distortion.py [--short]

Plucked strings go through a small amplifier: a high-pass filter, a saturation that is not symmetric
and whose point of work sinks when it is loud, and a low-pass filter. An LSTM of 24 units learns the
way from the clean signal to the distorted one, sample by sample. Then `fastnn.export_c` writes it
as one C file, the system's C compiler (cc) makes a program of it, and that goes through 10 seconds
of other notes at 48 kHz. Prints what is left of the signal as error, how far C and Python lie
apart and how long a second of sound takes; saves both signals as distortion.png. ``--short`` trains
for fewer epochs, and the sound is one second long.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import matplotlib
import numpy as np

import fastnn

RATE = 48_000
STEPS = 480  # of a training sequence
WARM_UP = 100  # steps in which the state of a sequence settles; their errors do not count

MAIN = """
#include <stdio.h>
#include <time.h>
#include "net.c"

int main(void) {
    static float x[1 << 20], y[1 << 20];
    const size_t n = fread(x, sizeof *x, 1 << 20, stdin);
    const clock_t start = clock();
    net_reset();
    for (size_t i = 0; i < n; i++) net_predict(x + i, y + i);
    fprintf(stderr, "%.9f", (double)(clock() - start) / CLOCKS_PER_SEC);
    return fwrite(y, sizeof *y, n, stdout) != n;
}
"""


def strings(seconds, seed):
    """Return the sound of plucked strings, a note every quarter of a second."""
    rng = np.random.default_rng(seed)
    sound = np.zeros(int(seconds * RATE))
    for start in range(0, len(sound), RATE // 4):
        time = np.arange(min(RATE, len(sound) - start)) / RATE
        pitch = 82.4 * 2 ** (rng.integers(0, 30) / 12)
        for k in range(1, 12):
            decay = np.exp(-time * (2 + 1.5 * k))
            sound[start:][: len(time)] += (
                rng.uniform(0.1, 0.4) / k * decay * np.sin(2 * np.pi * k * pitch * time)
            )
    return sound


def amplifier(x):
    """Return the distorted signal."""
    y = np.empty_like(x)
    high = low = level = before = 0.0
    for i, sample in enumerate(x):
        high, before = 0.995 * (high + sample - before), sample
        level += 0.001 * (abs(high) - level)
        low += 0.4 * (np.tanh(4 * high - level + 0.2) - np.tanh(0.2) - low)
        y[i] = low
    return y


def sequences(x, y):
    """Cut two signals into sequences (count, STEPS, 1)."""
    count = len(x) // STEPS
    return (s[: count * STEPS].reshape(count, STEPS, 1).astype(np.float32) for s in (x, y))


def settled(pred, target):
    """The squared error of all steps after the warm-up, over the power of the signal."""
    error = pred - target
    error[:, :WARM_UP] = 0
    scale = 1 / (target[:, WARM_UP:] ** 2).sum()
    return float((error**2).sum() * scale), (2 * scale) * error


def train(seconds, epochs):
    """Return an LSTM that has learned the amplifier from so many seconds."""
    sound = strings(seconds, seed=0)
    x, y = sequences(sound, amplifier(sound))
    model = fastnn.Sequential(fastnn.LSTM(1, 24), fastnn.Linear(24, 1), rng=0)
    steps = epochs * -(-len(x) // 20)
    rate = fastnn.schedules.cosine_decay(0.01, steps)
    optimizer = fastnn.optim.Adam(model.parameters(), lr=rate, clip_norm=1.0)
    fastnn.Trainer(model, settled, optimizer).fit(x, y, epochs=epochs, batch_size=20, rng=0)
    return model


def run_in_c(model, sound):
    """Return what the exported and compiled model makes of the sound, and the seconds it takes."""
    with tempfile.TemporaryDirectory() as folder:
        fastnn.export_c(model, Path(folder, "net.c"))
        Path(folder, "main.c").write_text(MAIN)
        program = Path(folder, "net")
        command = ["cc", "-std=c99", "-O3", "-march=native", "-o", program, "main.c", "-lm"]
        subprocess.run(command, cwd=folder, check=True)
        given = sound.astype(np.float32).tobytes()
        done = subprocess.run([program], input=given, capture_output=True, check=True)
    return np.frombuffer(done.stdout, np.float32), float(done.stderr)


def picture(sound, wanted, got, path):
    """Draw 20 milliseconds of the three signals."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    part = slice(RATE // 2, RATE // 2 + RATE // 50)
    time = np.arange(RATE // 50) / RATE * 1000
    figure, axes = pyplot.subplots(figsize=(8, 4), layout="constrained")
    axes.plot(time, sound[part], color="0.7", label="clean")
    axes.plot(time, wanted[part], label="amplifier")
    axes.plot(time, got[part], "--", label="LSTM of 24 units, in C")
    axes.set(xlabel="milliseconds", ylabel="signal")
    axes.legend()
    figure.savefig(path, dpi=120)


def main(short):
    """Train, export, compile, run and show."""
    model = train(seconds=4, epochs=4 if short else 60)
    seconds = 1 if short else 10
    sound = strings(seconds, seed=1)
    wanted = amplifier(sound)
    got, taken = run_in_c(model, sound)
    error = ((got - wanted)[WARM_UP:] ** 2).sum() / (wanted[WARM_UP:] ** 2).sum()
    print(f"error: {100 * error:.2f} % of the signal's power")
    stream = model.stream()
    python = np.array([stream(sample) for sample in sound[:RATE, None].astype(np.float32)])[:, 0]
    print(f"C and Python differ by {np.abs(got[:RATE] - python).max():.1e} at most")
    print(f"{seconds} s of sound take {taken:.3f} s: real-time factor {taken / seconds:.3f}")
    picture(sound, wanted, got, "distortion.png")
    print("saved distortion.png")
    assert error < (0.5 if short else 0.02)


if __name__ == "__main__":
    main("--short" in sys.argv[1:])
