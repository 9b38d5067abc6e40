"""Train small and medium neural networks on a CPU from NumPy, at the speed of the arithmetic.

Examples
--------
>>> import numpy as np, fastnn
>>> rng = np.random.default_rng(0)
>>> x = rng.normal(size=(256, 2)).astype(np.float32)
>>> y = (x[:, 0] * x[:, 1] > 0).astype(np.int64)
>>> model = fastnn.Sequential(fastnn.Linear(2, 32), fastnn.Tanh(), fastnn.Linear(32, 2), rng=0)
>>> trainer = fastnn.Trainer(
...     model, "cross_entropy", fastnn.optim.Adam(model.parameters(), lr=0.03)
... )
>>> history = trainer.fit(x, y, epochs=60, batch_size=32, progress=False, rng=0)
>>> trainer.evaluate(x, y, metrics=["accuracy"])["accuracy"] > 0.95
True
"""

from typing import TYPE_CHECKING

from fastnn import (
    callbacks as callbacks,
    distributed as distributed,
    initializers as initializers,
    layers as layers,
    losses as losses,
    ops as ops,
    optim as optim,
    preprocessing as preprocessing,
    schedules as schedules,
)
from fastnn._kernels.core import (
    get_num_threads as get_num_threads,
    set_num_threads as set_num_threads,
)
from fastnn.callbacks import (
    CSVLogger as CSVLogger,
    EarlyStopping as EarlyStopping,
    ModelCheckpoint as ModelCheckpoint,
    TerminateOnNaN as TerminateOnNaN,
)
from fastnn.config import show_config as show_config
from fastnn.layers import *  # noqa: F403
from fastnn.safetensors import (
    load_safetensors as load_safetensors,
    save_safetensors as save_safetensors,
)
from fastnn.saving import load as load, save as save
from fastnn.torch import from_torch as from_torch, to_torch as to_torch
from fastnn.training import (
    History as History,
    Trainer as Trainer,
    fit_many as fit_many,
)

if TYPE_CHECKING:
    from fastnn import (
        analysis as analysis,
        plot as plot,
        reference as reference,
        solvers as solvers,
    )
    from fastnn.export import export_c as export_c
    from fastnn.solvers.objective import objective as objective

    __version__: str
else:  # type checkers read literal lists alone, and the imports
    __all__ = [
        *layers.__all__,
        "CSVLogger",
        "EarlyStopping",
        "History",
        "ModelCheckpoint",
        "TerminateOnNaN",
        "Trainer",
        "analysis",
        "callbacks",
        "distributed",
        "export_c",
        "fit_many",
        "from_torch",
        "get_num_threads",
        "initializers",
        "layers",
        "load",
        "load_safetensors",
        "losses",
        "objective",
        "ops",
        "optim",
        "plot",
        "preprocessing",
        "reference",
        "save",
        "save_safetensors",
        "schedules",
        "set_num_threads",
        "show_config",
        "solvers",
        "to_torch",
    ]

    def __dir__():
        return __all__

    # Not every program needs these, which take as long to import as all the rest, or an extra.
    _LATER = ("analysis", "onnx", "plot", "reference", "solvers")
    _FROM = {"export_c": "export", "objective": "solvers.objective"}

    def __getattr__(name):
        if name in _LATER or name in _FROM:
            from importlib import import_module

            module = import_module(f"fastnn.{_FROM.get(name, name)}")
            return getattr(module, name) if name in _FROM else module
        if name == "__version__":  # read when asked for: it takes as long as half the import
            from importlib.metadata import version

            return version("fastnn-cpu")
        from fastnn._hints import missing

        raise missing("fastnn", name)
