"""Whole models in one file: layers by name and arguments, weights as arrays, nothing to execute.

The file is one of safetensors. Its arrays are those of the model's state dict; its metadata has,
under `KEY`, the rest in JSON:

``version``
    Of this format. A newer one is refused.
``dtype``
    Of the model.
``layers``
    For each layer its class, its arguments (`Layer.config`) and, where the constructor takes
    ``*layers``, the numbers of those, which stand before it. The last is the model. A layer that is
    in several places stands here once. Built-in classes begin with ``fastnn.``.
``tied``
    Parameters that are others: their keys in the state dict.
``frozen``
    Keys of parameters that are not trained.
``preprocessing``
    Shift and scale, or null.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from inspect import Parameter as Argument, signature
from os import PathLike
from typing import Any

import numpy as np

from fastnn import layers
from fastnn._door.arrays import describe
from fastnn._files import as_path
from fastnn._typing import Array
from fastnn.layers import Layer, Parameter
from fastnn.preprocessing import Statistics
from fastnn.safetensors import read_safetensors, save_safetensors

__all__ = ["load", "save"]


def __dir__() -> list[str]:
    return __all__


KEY, VERSION = "fastnn.model", 1

# In a file that claims more, something is wrong: places of layers, for one may be in many, and
# layers within layers.
_MOST_PLACES, _DEEPEST = 10_000, 100


def _built_in() -> dict[str, type[Layer]]:
    """Return the classes that need not be given to `load`, by their names in a file."""
    found = {f"fastnn.{name}": getattr(layers, name) for name in dir(layers)}
    return {name: cls for name, cls in found.items() if issubclass(cls, Layer)}


def save(
    path: str | PathLike[str], model: Layer, preprocessing: Statistics | None = None
) -> None:
    """Write a whole model to a file: layers, weights and what is done to its input.

    Parameters
    ----------
    path : str or path
        A file there is replaced when the new one is complete; see `save_safetensors`.
    model : Layer
        Layers in plain Python are saved by the name of their class and what their
        :meth:`~fastnn.layers.Layer.config` returns.
    preprocessing : Statistics, optional
        What `fastnn.preprocessing` did to the training data; `predict` of the loaded model does it
        to its input. By default the model's own.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind, or `config` of a layer returns what JSON does not have.
    ValueError
        If the model has more than 10,000 layers, or 100 within each other.
    OSError
        If the file cannot be written.

    See Also
    --------
    Trainer.save : what a training needs to go on, without the model's layers.
    save_safetensors : arrays alone.

    Examples
    --------
    >>> import numpy as np, fastnn
    >>> x, statistics = fastnn.preprocessing.standardize(np.array([[1.0, 10.0], [3.0, 30.0]]))
    >>> model = fastnn.Sequential(fastnn.Linear(2, 8), fastnn.Tanh(), fastnn.Linear(8, 1), rng=0)
    >>> fastnn.save("model.safetensors", model, preprocessing=statistics)
    >>> loaded = fastnn.load("model.safetensors")
    >>> bool((loaded.predict([[1.0, 10.0], [3.0, 30.0]]) == model(x)).all())
    True
    """
    if not isinstance(model, Layer):
        raise TypeError(f"model: expected a fastnn layer, got {describe(model)}")
    statistics = model.preprocessing if preprocessing is None else preprocessing
    if statistics is not None and not isinstance(statistics, Statistics):
        raise TypeError(f"preprocessing: expected Statistics, got {describe(statistics)}")
    with model._built().lock:
        tied, frozen = _tied_and_frozen(model)
        described = {
            "version": VERSION,
            "dtype": str(model._built().dtype),
            "layers": _describe(model),
            "tied": tied,
            "frozen": frozen,
            "preprocessing": statistics and {
                name: np.asarray(values, np.float64).tolist()
                for name, values in statistics._asdict().items()
            },
        }  # fmt: skip
        arrays = {name: entry.array for name, entry in model._state().items()}
        save_safetensors(path, arrays, {KEY: json.dumps(described)})


def _describe(model: Layer) -> list[dict[str, Any]]:
    """Return class, arguments and layers inside for each layer, those inside first."""
    names = {cls: name for name, cls in _built_in().items()}
    numbers: dict[Layer, int] = {}
    described: list[dict[str, Any]] = []

    def number(layer: Layer, path: str) -> int:
        if layer not in numbers:
            cls = type(layer)
            entry: dict[str, Any] = {
                "class": names.get(cls, cls.__name__), "config": _config(layer, path),
            }  # fmt: skip
            if any(a.kind is Argument.VAR_POSITIONAL for a in signature(cls).parameters.values()):
                entry["layers"] = [
                    number(inside, f"{path}.{name}" if path else name)
                    for name, inside in layer.children().items()
                ]
            described.append(entry)
            numbers[layer] = len(described) - 1
        return numbers[layer]

    number(model, "")
    _check_nesting(described)
    return described


def _config(layer: Layer, path: str) -> dict[str, Any]:
    """Return a layer's arguments as they come back from JSON."""
    name = f"layer {path or 'model'} ({type(layer).__name__}): config()"
    try:
        config = layer.config()
        if not isinstance(config, Mapping):
            raise TypeError(f"expected a dict of arguments, got {describe(config)}")
        result: dict[str, Any] = json.loads(json.dumps(dict(config), default=_plain))
    except TypeError as error:
        raise TypeError(f"{name}: {error}") from None
    return result


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"expected numbers, text, lists and dicts, got {describe(value)}")


def _tied_and_frozen(model: Layer) -> tuple[dict[str, str], list[str]]:
    first: dict[Parameter, str] = {}
    tied = {}
    for path, layer in model._layers():
        for name, parameter in layer._parameters.items():
            key = f"{path}.{name}" if path else name
            if first.setdefault(parameter, key) != key:
                tied[key] = first[parameter]
    return tied, [key for parameter, key in first.items() if not parameter.trainable]


def load(
    path: str | PathLike[str], custom: Mapping[str, type[Layer]] | None = None
) -> Layer:
    """Make the model that `save` has written. Nothing in the file is executed.

    Parameters
    ----------
    path : str or path
    custom : mapping of str to class, optional
        The classes of its layers in Python by their names. They are called with what `config`
        returned, by keyword.

    Returns
    -------
    Layer
        Of the class that was saved. Its `preprocessing` is what was saved with it, and its
        `predict` applies that.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind.
    ValueError
        If the file is damaged, of a newer version or of another kind, or needs a class that is not
        in `custom`.
    OSError
        If it cannot be read.
    """
    path = as_path(path)
    if custom is not None and not isinstance(custom, Mapping):
        raise TypeError(f"custom: expected a mapping of names to classes, got {describe(custom)}")
    classes: dict[str, Any] = dict(custom or {})
    for name, cls in classes.items():
        if not (isinstance(cls, type) and issubclass(cls, Layer)):
            raise TypeError(f"custom[{name!r}]: expected a subclass of Layer, got {cls!r}")
    tensors, metadata = read_safetensors(path)
    if KEY not in metadata:
        kind, reader = "arrays", "load_safetensors"
        if "fastnn.trainer" in metadata:
            kind, reader = "Trainer.save", "Trainer.restore"
        raise ValueError(f"{path}: expected a file of fastnn.save, got one of {kind}, which "
                         f"{reader} reads")
    try:
        return _rebuild(json.loads(metadata[KEY]), tensors, classes)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    except (AttributeError, IndexError, KeyError, RecursionError, TypeError) as error:
        raise ValueError(
            f"{path}: expected a model as fastnn.save describes it, got {error!r}"
        ) from error


def _rebuild(saved: Any, tensors: Mapping[str, Array], custom: Mapping[str, Any]) -> Layer:
    """Make the model that is described."""
    if type(version := saved["version"]) is int and version > VERSION:
        raise ValueError(
            f"expected a model in format {VERSION} or older, got {version}; it was saved by a "
            "newer fastnn, which is needed to load it"
        )
    model = _make(saved["layers"], custom, sum(a.nbytes for a in tensors.values()))
    places = dict(model._places())
    for key, other in saved["tied"].items():
        (layer, name), (owner, owned) = (_split(k, places) for k in (key, other))
        setattr(layer, name, owner._parameters[owned])
    _check_arrays(places, tensors)
    model._dtype = np.dtype({"float32": "f4", "float64": "f8"}[saved["dtype"]])
    model.load_state_dict(tensors)
    for key in saved["frozen"]:
        layer, name = _split(key, places)
        layer._parameters[name].trainable = False
    if saved["preprocessing"] is not None:
        values = (np.array(saved["preprocessing"][name], np.float64) for name in Statistics._fields)
        model.preprocessing = Statistics(*values)
    return model


def _split(key: str, places: Mapping[str, Layer]) -> tuple[Layer, str]:
    """Return the layer that has the parameter of a key, and its name there."""
    path, _, name = key.rpartition(".")
    return places[path], name


def _check_nesting(described: Any) -> None:
    """Raise ValueError unless the layers inside stand before their containers, and are not many."""
    counts: list[int] = []  # places of each with all inside
    depths: list[int] = []
    for entry in described:
        inside = entry.get("layers", [])
        if any(type(i) is not int or not 0 <= i < len(counts) for i in inside):
            raise ValueError(f"expected layers that stand before their container, got {inside}")
        counts.append(1 + sum(counts[i] for i in inside))
        depths.append(1 + max((depths[i] for i in inside), default=0))
        if counts[-1] > _MOST_PLACES or depths[-1] > _DEEPEST:
            raise ValueError(
                f"model: expected at most {_MOST_PLACES} layers, and {_DEEPEST} within each other, "
                "got more"
            )


def _make(described: Any, custom: Mapping[str, Any], size: int) -> Layer:
    """Make all layers and return the last."""
    _check_nesting(described)
    built_in = _built_in()
    made: list[Layer] = []
    for entry in described:
        name, config, inside = entry["class"], entry["config"], entry.get("layers", [])
        sizes = [value for value in config.values() if type(value) is int]
        if name in built_in and max(sizes, default=0) > 1000 + size:
            raise ValueError(f"{name}: expected sizes of which the file has arrays, got {config}")
        cls = built_in.get(name, custom.get(name))
        if cls is None:
            raise ValueError(
                f"custom: expected the class of a layer {name}, got {sorted(custom)}; "
                f"fastnn.load(path, custom={{{name!r}: {name}}})"
            )
        try:
            made.append(cls(*(made[i] for i in inside), **config))
        except (TypeError, ValueError) as error:
            raise ValueError(f"{name}: cannot be made with {config}: {error}") from error
    return made[-1]


def _check_arrays(places: Mapping[str, Layer], tensors: Mapping[str, Array]) -> None:
    """Raise ValueError unless the arrays are the model's, before it takes memory for them."""
    expected = dict(_shapes(places))
    if expected.keys() != tensors.keys():
        raise ValueError(f"expected the arrays {sorted(expected)}, got {sorted(tensors)}")
    for key, shape in expected.items():
        if tensors[key].shape != shape:
            raise ValueError(f"{key}: expected shape {shape}, got {describe(tensors[key])}")


def _shapes(places: Mapping[str, Layer]) -> Iterator[tuple[str, tuple[int, ...]]]:
    for path, layer in places.items():
        for name, entry in layer._entries().items():
            yield f"{path}.{name}" if path else name, entry.shape
