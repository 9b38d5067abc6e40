"""Where to find what other libraries call by another name, or keep in another place.

A module's `__getattr__` asks here when it has no such attribute; nothing is imported before.
"""

from __future__ import annotations

from importlib import import_module

__all__ = ["missing"]

_NO_AUTOGRAD = "there is no autograd; layers know their gradients, fastnn.analysis has Jacobians"
_NO_CONVOLUTIONS = "there are no convolutions; PyTorch and JAX have them"
_NO_LOADERS = "Trainer.fit takes whole arrays and a batch_size, Trainer.step a batch"
_NO_SEED = "there is no global seed; give rng=0 to a model and to Trainer.fit"
_OTHERS = {
    "autograd": _NO_AUTOGRAD,
    "batchnorm": "it is fastnn.BatchNorm1d(num_features)",
    "batchnormalization": "it is fastnn.BatchNorm1d(num_features)",
    "bceloss": "it is fastnn.losses.binary_cross_entropy_with_logits, of logits",
    "bcewithlogitsloss": "it is fastnn.losses.binary_cross_entropy_with_logits",
    "bce": "it is fastnn.losses.binary_cross_entropy_with_logits, of logits",
    "binary_cross_entropy": "it is fastnn.losses.binary_cross_entropy_with_logits, of logits",
    "binarycrossentropy": "it is fastnn.losses.binary_cross_entropy_with_logits, of logits",
    "categoricalcrossentropy": "it is fastnn.losses.cross_entropy, of logits",
    "compile": "nothing is compiled; what to train is in fastnn.Trainer(model, loss, optimizer)",
    "conv1d": _NO_CONVOLUTIONS,
    "conv2d": _NO_CONVOLUTIONS,
    "crossentropyloss": "it is fastnn.losses.cross_entropy",
    "cuda": "there is no GPU; everything runs on the CPU",
    "dataloader": _NO_LOADERS,
    "dataset": _NO_LOADERS,
    "dense": "it is fastnn.Linear(in_features, out_features)",
    "device": "there is no GPU; everything runs on the CPU",
    "fit": "it is fastnn.Trainer(model, loss, optimizer).fit(x, y, epochs=...)",
    "from_numpy": "there are no tensors; layers take and return NumPy arrays",
    "functional": "functions on arrays are in fastnn.ops, losses in fastnn.losses",
    "glorot_normal": "it is fastnn.initializers.xavier_normal",
    "glorot_uniform": "it is fastnn.initializers.xavier_uniform",
    "grad": _NO_AUTOGRAD,
    "gru": "of recurrent layers there is fastnn.LSTM alone",
    "huberloss": "it is fastnn.losses.huber",
    "init": "it is fastnn.initializers",
    "input": "there are no symbolic inputs; layers are given to fastnn.Sequential",
    "jit": "nothing is compiled; a model plans itself at its first call",
    "kaiming_normal": "it is fastnn.initializers.he_normal",
    "kaiming_uniform": "it is fastnn.initializers.he_uniform",
    "keras": "layers are in fastnn itself, as fastnn.Linear; fastnn.onnx.load reads Keras's models",
    "l1loss": "it is fastnn.losses.l1",
    "layernormalization": "it is fastnn.LayerNorm(normalized_shape)",
    "learningratescheduler": "an optimizer takes a schedule, or any function of the step, as lr",
    "lr_scheduler": "it is fastnn.schedules; an optimizer takes one as lr",
    "manual_seed": _NO_SEED,
    "meansquarederror": "it is fastnn.losses.mse",
    "metrics": "Trainer.fit and evaluate take metrics=['accuracy'], or functions (y_true, y_pred)",
    "model": "it is fastnn.Sequential(*layers), or a subclass of fastnn.Layer",
    "module": "it is fastnn.Layer; models are fastnn.Sequential(*layers)",
    "mseloss": "it is fastnn.losses.mse",
    "nn": "layers are in fastnn itself, as fastnn.Linear, losses in fastnn.losses",
    "no_grad": "there is no autograd; gradients are kept only by forward(x, training=True)",
    "optimizers": "it is fastnn.optim",
    "random": _NO_SEED,
    "reducelronplateau": "assign optimizer.lr in a callback, or give a schedule as lr",
    "rnn": "of recurrent layers there is fastnn.LSTM alone",
    "seed": _NO_SEED,
    "smoothl1loss": "it is fastnn.losses.huber",
    "sparsecategoricalcrossentropy": "it is fastnn.losses.cross_entropy, of logits",
    "swish": "it is fastnn.SiLU()",
    "tensor": "there are no tensors; layers take and return NumPy arrays",
    "train": "it is fastnn.Trainer(model, loss, optimizer).fit(x, y, epochs=...)",
    "variable": "there are no tensors; optimizers change NumPy arrays in place",
}
# where a name is looked for, the likelier first
_MODULES = (
    "fastnn", "fastnn.optim", "fastnn.losses", "fastnn.schedules", "fastnn.callbacks", "fastnn.ops",
    "fastnn.initializers", "fastnn.preprocessing", "fastnn.plot", "fastnn.analysis",
    "fastnn.solvers",
)  # fmt: skip
_ESTIMATORS = (
    "MLPClassifier", "MLPRegressor", "LSTMClassifier", "LSTMRegressor", "TabularClassifier",
    "TabularRegressor",
)  # fmt: skip


def missing(module: str, name: str) -> AttributeError:
    """Return the error for an attribute that a module does not have, with the way out.

    Parameters
    ----------
    module : str
        The module's `__name__`.
    name : str

    Returns
    -------
    AttributeError
    """
    text = f"module {module!r} has no attribute {name!r}"
    hint = "" if name.startswith("_") else _hint(module, name)
    return AttributeError(f"{text}; {hint}" if hint else text)


def _hint(module: str, name: str) -> str:
    from difflib import get_close_matches

    found: dict[str, str] = {}  # as it is written here, by how others may write it
    for place in (module, *_MODULES):
        for key in import_module(place).__all__:
            found.setdefault(key.lower().replace("_", ""), f"{place}.{key}")
    found |= {key.lower(): f"fastnn.sklearn.{key}" for key in _ESTIMATORS}
    if hint := _OTHERS.get(name.lower()):
        return hint
    wanted = name.lower().replace("_", "")
    if wanted in found:
        return f"it is {found[wanted]}"
    near = [key for key in found if key.startswith(wanted)][:2]
    near = near or get_close_matches(wanted, found, n=1, cutoff=0.75)
    return f"did you mean {' or '.join(found[key] for key in near)}?" if near else ""
