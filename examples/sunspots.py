"""Forecast the sunspot number of the next year with a committee of LSTM networks.

    pip install ".[examples]" && python examples/sunspots.py [--short]

The yearly sunspot numbers of 1700 to 2008 come with statsmodels. Everything is fitted on the years
to 1920; the years from 1921, the last eight cycles, only test it. Beside the networks stand simple
forecasts: the last year's number, and a linear autoregression on as many past years, which must
both do worse. A second autoregression sees the square roots of the numbers, as the networks do, and
shows how much of their lead that alone brings: about all of it. Prints the root mean square error
of each and saves the test years as sunspots.png. ``--short`` trains fewer networks.

The order (of about one cycle), the size of the network and that it forecasts the change since the
last year were chosen on the years to 1920 alone, by the errors in years that the fits had left out:
blocks of years, later years and the years of the highest cycles.
"""

import sys

import matplotlib
import numpy as np
from statsmodels.datasets import sunspots

import fastnn
from fastnn import preprocessing

ORDER = 11  # past years that a forecast is made from
LAST_TRAINING_YEAR = 1920


def load():
    """Return the years and the mean sunspot number of each."""
    years, numbers = sunspots.load_pandas().data.to_numpy().T
    return years.astype(int), numbers


def windows(series):
    """Return each run of ORDER values, (windows, ORDER), and the value that follows it."""
    past = np.lib.stride_tricks.sliding_window_view(series[:-1], ORDER)
    return past, series[ORDER:]


def autoregression(past, following, new):
    """Fit following ≈ a + past·b by least squares; return the forecasts from `new`."""
    design = np.column_stack([np.ones(len(past)), past])
    coefficients, *_ = np.linalg.lstsq(design, following)
    return coefficients[0] + new @ coefficients[1:]


def network(past, change, held_out, seed):
    """Return a trainer of an LSTM that was stopped where it forecasts the held-out years best."""
    model = fastnn.Sequential(
        fastnn.LSTM(1, 8, return_sequences=False),
        fastnn.Linear(8, 1),
        rng=seed,
    )
    optimizer = fastnn.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=1e-2)
    trainer = fastnn.Trainer(model, "mse", optimizer)
    stopping = fastnn.callbacks.EarlyStopping(patience=30, restore_best=True)
    trainer.fit(
        past[~held_out],
        change[~held_out],
        epochs=300,
        batch_size=16,
        validation_data=(past[held_out], change[held_out]),
        callbacks=[stopping],
        progress=False,
        rng=seed,
    )
    return trainer


def committee(past, following, new, members):
    """Return the mean forecast of networks, each of which holds out another block of years.

    With one network the years that it stops by would be lost; here each block teaches all members
    but one, and the mean forgets what a single one owes to chance.
    """
    change = (following - past[:, -1])[:, np.newaxis]  # also right above all levels seen so far
    past, new = past[..., np.newaxis], new[..., np.newaxis]  # one feature per year
    block = np.arange(len(past)) * members // len(past)
    changes = [network(past, change, block == seed, seed).predict(new) for seed in range(members)]
    return (new[:, -1] + np.mean(changes, axis=0))[:, 0]


def forecast(years, numbers, members):
    """Return {name: forecasts of the test years}, made from the years before each."""
    training = years <= LAST_TRAINING_YEAR
    first_test = np.count_nonzero(training)

    def split(series):
        past, following = windows(series)
        cut = first_test - ORDER
        return past[:cut], following[:cut], past[cut:]

    # The number jumps about more where it is high; its square root does so evenly.
    _, statistics = preprocessing.standardize(np.sqrt(numbers[training]))
    scaled = statistics.apply(np.sqrt(numbers))

    def unscale(forecasts):
        return np.maximum(statistics.invert(forecasts), 0) ** 2

    order = f"AR({ORDER})"
    return {
        "last year": numbers[first_test - 1 : -1],
        order: autoregression(*split(numbers)),
        f"{order} of square roots": unscale(autoregression(*split(scaled))),
        f"{members} LSTMs": unscale(committee(*split(scaled), members)),
    }


def save_picture(path, years, truth, forecasts):
    """Draw the test years and forecasts of them."""
    matplotlib.use("Agg")  # a file, no window
    from matplotlib import pyplot as plt

    figure, ax = plt.subplots(figsize=(10, 4.5), layout="constrained")
    ax.fill_between(years, truth, color="0.85", label="observed")
    for (name, values), style in zip(forecasts.items(), ("--", "-"), strict=True):
        ax.plot(years, values, style, linewidth=1.5, label=name)
    ax.set(xlabel="year", ylabel="sunspot number", xlim=(years[0], years[-1]), ylim=(0, None))
    ax.set_title("Forecasts one year ahead")
    ax.legend(ncols=3)
    figure.savefig(path, dpi=150)


def main(short=False):
    years, numbers = load()
    test = years > LAST_TRAINING_YEAR
    truth = numbers[test]
    forecasts = forecast(years, numbers, members=4 if short else 10)
    errors = {name: np.sqrt(np.mean((f - truth) ** 2)) for name, f in forecasts.items()}
    print(f"root mean square error, {years[test][0]} to {years[-1]}")
    for name, error in errors.items():
        print(f"  {name:24}{error:6.2f}")
    last, linear, _, networks = forecasts
    save_picture("sunspots.png", years[test], truth, {n: forecasts[n] for n in (linear, networks)})
    print("picture: sunspots.png")
    return 0 if errors[networks] < min(errors[last], errors[linear]) else 1


if __name__ == "__main__":
    sys.exit(main("--short" in sys.argv[1:]))
