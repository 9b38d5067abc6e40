"""Modules of PyTorch as models, and models as modules of PyTorch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastnn._door.arrays import describe
from fastnn._door.numbers import float_dtype
from fastnn.layers import Layer, Parameter
from fastnn.layers.base import arguments

if TYPE_CHECKING:
    from fastnn.torch._torch import torch
    from fastnn.torch.modules import Kind

__all__ = ["from_torch", "to_torch"]


def from_torch(module: torch.nn.Module) -> Layer:
    """Make the model that a module of PyTorch is, with its weights.

    Parameters
    ----------
    module : torch.nn.Module
        A ``torch.nn.Sequential``, nested ones too, of modules that are layers here, or one of
        those. Parameters that are shared, modules that are in several places and
        ``requires_grad=False`` stay what they are.

    Returns
    -------
    Layer
        With copies of parameters and buffers. Its state dict has the module's keys where the
        modules of a Sequential have numbers.

    Raises
    ------
    TypeError
        If `module` is none, or a module inside is no layer here; the message has its path.
    ValueError
        If a module has an option that its layer does not have.
    ImportError
        If PyTorch is not installed.

    Notes
    -----
    An LSTM needs ``batch_first=True``, and gives its output without its states. Of softmax the axis
    must be -1, the last.

    Examples
    --------
    >>> import torch, fastnn  # doctest: +SKIP
    >>> module = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU())  # doctest: +SKIP
    >>> fastnn.from_torch(module)  # doctest: +SKIP
    Sequential(Linear(4, 8), ReLU())
    """
    from fastnn.torch.modules import nn

    if not isinstance(module, nn.Module):
        raise TypeError(f"module: expected a torch.nn.Module, got {describe(module)}")
    dtype = _dtype(module)
    made: dict[Any, Layer] = {}

    def convert(theirs: Any, path: str) -> Layer:
        if theirs not in made:
            kind, place = _kind_of(theirs, path), f"module {path or '(itself)'}"
            place += f" ({type(theirs).__name__})"
            options = {name: getattr(theirs, name) for name in arguments(kind.ours)
                       if hasattr(theirs, name)}
            if "bias" in options:  # the parameter, or None
                options["bias"] = options["bias"] is not None
            for name, value in kind.required.items():
                if (given := getattr(theirs, name)) != value:
                    raise ValueError(f"{place}: {name}: expected {value!r}, got {given!r}")
            inside = [convert(child, f"{path}.{name}" if path else name)
                      for name, child in theirs._modules.items()]
            try:
                layer = kind.ours(*inside, **options, dtype=dtype)
            except (TypeError, ValueError) as error:
                raise type(error)(f"{place}: {error}") from None
            own = {**theirs._parameters, **theirs._buffers}
            names = {name for name, tensor in own.items() if tensor is not None}
            if names - {"num_batches_tracked"} != layer._entries().keys():
                raise ValueError(f"{place}: expected the parameters {sorted(layer._entries())}, "
                                 f"got {sorted(names)}")
            made[theirs] = layer
        return made[theirs]

    model = convert(module, "")
    first: dict[int, Parameter] = {}
    for theirs, layer in made.items():
        for name, parameter in layer._parameters.items():
            tied = first.setdefault(id(getattr(theirs, name)), parameter)
            if tied is not parameter:
                setattr(layer, name, tied)
    for theirs, layer in made.items():
        for name, entry in layer._entries().items():
            entry.data = getattr(theirs, name)
            if isinstance(entry, Parameter):
                entry.trainable = getattr(theirs, name).requires_grad
    return model


def _dtype(module: Any) -> Any:
    """Return the one dtype of all its parameters and buffers."""
    tensors = (t for name, t in module.state_dict().items()
               if not name.endswith("num_batches_tracked"))
    found = {str(tensor.dtype).removeprefix("torch.") for tensor in tensors} or {"float32"}
    if len(found) > 1:
        raise ValueError(f"module: expected one dtype, got {', '.join(sorted(found))}")
    try:
        return float_dtype(*found)
    except TypeError as error:
        raise TypeError(f"module: {error}; module.float() converts it") from None


def _kind_of(theirs: Any, path: str) -> Kind:
    from fastnn.torch.modules import KINDS

    kinds = {kind.theirs: kind for kind in KINDS}
    hooks = any((theirs._forward_pre_hooks, theirs._forward_hooks, theirs._backward_hooks))
    for cls in type(theirs).__mro__:
        # a subclass computes the same unless it has a forward of its own
        if cls in kinds and type(theirs).forward is cls.forward and not hooks:
            return kinds[cls]
    known = ", ".join(cls.__name__ for cls in kinds)
    raise TypeError(
        f"module {path or '(itself)'}: expected one of {known}, got "
        f"{describe(theirs)}{' with hooks' if hooks else ''}"
    )


def to_torch(model: Layer) -> torch.nn.Module:
    """Make a module of PyTorch that computes what a model does, with its weights.

    Parameters
    ----------
    model : Layer
        Of built-in layers.

    Returns
    -------
    torch.nn.Module
        With copies of parameters and buffers, the same keys in its state dict, and in training
        mode, as new modules are. An LSTM gives its output alone; `Residual` and `Concat` are
        subclasses of ``torch.nn.Sequential`` in `fastnn.torch.modules`.

    Raises
    ------
    TypeError
        If `model` is none, or has a layer in Python; the message has its path.
    ImportError
        If PyTorch is not installed.
    """
    from fastnn.torch._torch import torch
    from fastnn.torch.modules import KINDS, nn

    if not isinstance(model, Layer):
        raise TypeError(f"model: expected a fastnn layer, got {describe(model)}")
    kinds = {kind.ours: kind for kind in reversed(KINDS)}
    made: dict[Layer, Any] = {}
    tensors: dict[Parameter, Any] = {}

    def convert(layer: Layer, path: str) -> Any:
        if layer not in made:
            if type(layer) not in kinds:
                raise TypeError(
                    f"layer {path or '(itself)'}: expected a built-in one, got {describe(layer)}"
                )
            _, theirs, required = kinds[type(layer)]
            inside = [convert(child, f"{path}.{name}" if path else name)
                      for name, child in layer.children().items()]
            module = theirs(*inside, **layer.config(), **required)
            for name, entry in layer._entries().items():
                tensor = torch.tensor(entry.array)
                if isinstance(entry, Parameter):
                    tensor = nn.Parameter(tensor, requires_grad=entry.trainable)
                    tensor = tensors.setdefault(entry, tensor)
                setattr(module, name, tensor)
            made[layer] = module
        return made[layer]

    with model._built().lock, torch.random.fork_rng(devices=[]):
        module: torch.nn.Module = convert(model, "")
        return module
