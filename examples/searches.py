"""Search hyper-parameters with threads, a Dask cluster and Optuna: one grid, one answer.

    pip install ".[sklearn]" distributed optuna && python examples/searches.py [--short]

The estimators are scikit-learn's to all of them. Threads do without copies of the data, for a fit
runs without the interpreter's lock most of its time. Dask does the same work on the workers of a
cluster, here of one machine. Optuna stops trials that fall behind: a callback reports every epoch.
Prints the best parameters and the time of each beside a plain grid search.
"""

import sys
import time
import warnings
from pathlib import Path

import joblib
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, ParameterGrid, train_test_split

from fastnn.sklearn import MLPClassifier

GRID = {"alpha": [1e-4, 1e-2], "learning_rate_init": [1e-4, 1e-3, 1e-2]}


def data():
    """Return samples and labels to train on, and others."""
    x, y = load_digits(return_X_y=True)
    x, x_held, y, y_held = train_test_split(x / 16, y, random_state=0)
    return x, y, x_held, y_held


def plain(model, grid, x, y):
    """Return a grid search of three folds."""
    return GridSearchCV(model, grid, cv=3).fit(x, y)


def threads(model, grid, x, y):
    """Return the same, fits in two threads."""
    with joblib.parallel_config(backend="threading", n_jobs=2):
        return plain(model, grid, x, y)


def dask(model, grid, x, y):
    """Return the same, fits on the workers of a Dask cluster."""
    # Dask's package, not the example of its name beside this file
    here = Path(__file__).parent.resolve()
    sys.path[:] = [folder for folder in sys.path if Path(folder).resolve() != here]
    from distributed import Client

    cluster = {"n_workers": 2, "threads_per_worker": 1, "processes": False}
    with Client(**cluster, dashboard_address=None), joblib.parallel_config(backend="dask"):
        return plain(model, grid, x, y)


def one_by_one(model, grid, x, y, x_held, y_held):
    """Return the best parameters and their score on the held-out part."""
    found = {}
    for parameters in ParameterGrid(grid):
        model.set_params(**parameters, validation_data=(x_held, y_held), early_stopping=True)
        found[tuple(parameters.items())] = model.fit(x, y).best_validation_score_
    best = max(found, key=found.get)
    return dict(best), found[best]


def optuna(model, grid, x, y, x_held, y_held):
    """Return a study of the same grid, whose trials end where the median of others is better."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)

    def objective(trial):
        def report(epoch, logs):
            trial.report(logs["val_score"], epoch)
            if trial.should_prune():
                raise optuna.TrialPruned

        parameters = {name: trial.suggest_categorical(name, grid[name]) for name in grid}
        model.set_params(
            **parameters, validation_data=(x_held, y_held), early_stopping=True, callbacks=[report]
        )
        return model.fit(x, y).best_validation_score_

    study = optuna.create_study(
        direction="maximize",
        sampler=optuna.samplers.GridSampler(grid, seed=0),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=2, n_warmup_steps=3),
    )
    study.optimize(objective)
    return study


def main(short):
    """Run all four and print what they have found."""
    warnings.simplefilter("ignore", ConvergenceWarning)
    model = MLPClassifier(max_iter=10 if short else 60, random_state=0)
    x, y, x_held, y_held = data()
    for search in (plain, threads, dask):
        start = time.perf_counter()
        found = search(model, GRID, x, y)
        seconds = time.perf_counter() - start
        print(f"{search.__name__:8} {found.best_params_} {found.best_score_:.4f} {seconds:.1f} s")
    best, score = one_by_one(model, GRID, x, y, x_held, y_held)
    print(f"{'by hand':8} {best} {score:.4f} on the held-out part")
    study = optuna(model, GRID, x, y, x_held, y_held)
    pruned = sum(trial.state.name == "PRUNED" for trial in study.trials)
    print(f"{'optuna':8} {study.best_params} {study.best_value:.4f}, {pruned} trials pruned")


if __name__ == "__main__":
    main("--short" in sys.argv[1:])
