"""Files of ONNX as models that can be trained."""

from __future__ import annotations

from os import PathLike
from typing import Any

import numpy as np

from fastnn._door.numbers import float_dtype
from fastnn._files import as_path
from fastnn.layers import Concat, Layer, Scale, Sequential
from fastnn.onnx.source import Source, read
from fastnn.onnx.steps import Affine, Spec, Step, Unknown, flatten
from fastnn.onnx.trace import Trace

__all__ = ["load"]


def load(path: str | PathLike[str]) -> Sequential:
    """Make the model that a file of ONNX is, with its weights. It can be trained.

    Parameters
    ----------
    path : str or path
        As `export`, PyTorch, tf2onnx (Keras) and skl2onnx write them.

    Returns
    -------
    Sequential
        That gives the graph's first output of real numbers for its first input. An array of the
        file that several layers use is one parameter.

    Raises
    ------
    ValueError
        If the file is damaged or none of ONNX, or a node is part of no layer; the message has its
        name and operator.
    TypeError
        If `path` is none, or the weights are neither float32 nor float64.
    OSError
        If the file cannot be read.

    Notes
    -----
    Gemm, MatMul, LSTM, LayerNormalization, BatchNormalization, Gather by the input, Dropout,
    activations, Concat along the last axis and x + f(x) become layers; so does arithmetic that
    computes what a layer does, whatever its form, such as GELU by Erf or LayerNorm by ReduceMean.
    A scale and a shift are taken over by a dense layer or LSTM beside them. What concerns shapes
    alone is computed; only Flatten and the last step of an LSTM may change them, and a reshaping
    at the very end, such as that of one column to no axis, is left out. Nothing in the file is
    executed.

    The probability of two classes, of one logit as scikit-learn computes it, becomes a softmax of
    two. Lengths and states of an LSTM that are inputs of the graph are arguments of its `forward`.

    Examples
    --------
    >>> import numpy as np, fastnn, fastnn.onnx
    >>> fastnn.onnx.export(fastnn.LSTM(3, 4, rng=0), "lstm.onnx")
    >>> model = fastnn.onnx.load("lstm.onnx")
    >>> model
    Sequential(LSTM(3, 4))
    >>> model(np.ones((2, 5, 3))).shape
    (2, 5, 4)
    """
    path = as_path(path)
    try:
        source = read(path)
        steps = Trace(source).run()
        return _model(source, steps)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error


def _model(source: Source, steps: list[Step]) -> Sequential:
    """Make the layers of these steps."""
    found = {str(array.dtype) for step in flatten(steps) if step.spec.kind is not Affine
             for array in step.spec.arrays.values()}
    if len(found) > 1:
        raise ValueError(f"expected parameters of one dtype, got {', '.join(sorted(found))}")
    first, _ = next(iter(source.inputs.values()))
    dtype = float_dtype(next(iter(found), str(first) if first.kind == "f" else "float32"))
    made: list[tuple[Step, Layer]] = []
    model = Sequential(*(_layer(step, made) for step in steps), dtype=dtype)
    first_of: dict[Any, Any] = {}
    values = []
    for step, layer in made:
        for name, array in step.spec.arrays.items():
            entry = layer._entries()[name]
            key = step.spec.keys.get(name)
            same = first_of.setdefault(key, entry) if key is not None else entry
            if same is not entry and same.shape == entry.shape:
                setattr(layer, name, same)
            else:
                values.append((entry, array))
    for entry, array in values:
        entry.data = np.ascontiguousarray(array)
    return model


def _layer(step: Step, made: list[tuple[Step, Layer]]) -> Layer:
    spec = step.spec
    if spec.kind is Unknown:
        raise ValueError(f"{step.node}: expected a node that is part of a layer, got one that is "
                         "not supported")
    if spec.kind is Affine and spec.arrays["scale"].ndim and not spec.arrays["shift"].any():
        scale = spec.arrays["scale"]
        step = Step(step.parent, Spec(Scale, {"num_features": len(scale)}, {"weight": scale}),
                    step.shape, step.node)
        spec = step.spec
    if spec.kind is Affine:
        raise ValueError(f"{step.node}: expected a scale or shift beside a dense layer or an LSTM, "
                         "got one elsewhere, which is not supported")
    inside = [[_layer(s, made) for s in branch] for branch in spec.inside]
    parts = [branch[0] if len(branch) == 1 else Sequential(*branch) for branch in inside]
    if spec.kind is not Concat and inside:
        parts = inside[0]
    try:
        layer: Layer = spec.kind(*parts, **spec.config)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{step.node}: {error}") from None
    made.append((step, layer))
    return layer
