"""What the layers are in PyTorch: its modules, or small ones that compute the same from them."""

from __future__ import annotations

from typing import Any, NamedTuple

from fastnn import layers
from fastnn.torch._torch import torch

nn: Any = torch.nn


class Residual(nn.Sequential):
    """x + f(x) where f is the modules one after the other."""

    def forward(self, x: Any) -> Any:
        """Return the input and the output of the modules, added."""
        return x + super().forward(x)


class Concat(nn.Sequential):
    """Outputs of all modules for the same input, joined along the last axis."""

    def forward(self, x: Any) -> Any:
        """Return the outputs as one tensor."""
        return torch.cat([module(x) for module in self], -1)


class LSTM(nn.LSTM):
    """An LSTM that gives its output alone, so that another module can follow it.

    Parameters
    ----------
    return_sequences : bool
        Whether that is the whole sequence or the last step of each direction.
    **options
        Of ``torch.nn.LSTM``.
    """

    def __init__(self, *, return_sequences: bool = True, **options: Any) -> None:
        super().__init__(**options)
        self.return_sequences = return_sequences

    def forward(self, x: Any) -> Any:
        """Return (batch, time, features), or (batch, features) of each direction's last step."""
        y, (h, _) = super().forward(x)
        return y if self.return_sequences else torch.cat([*h[-1 - self.bidirectional :]], -1)


class Scale(nn.Module):
    """A factor for each feature."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features
        self.weight = nn.Parameter(torch.ones(num_features))

    def forward(self, x: Any) -> Any:
        """Return x times the factors."""
        return x * self.weight


class Kind(NamedTuple):
    """A layer and its module, whose arguments and parameters have the same names.

    Attributes
    ----------
    ours, theirs : class
    required : dict
        What arguments of the module must be that the layer does not have.
    """

    ours: type[layers.Layer]
    theirs: type[Any]
    required: dict[str, Any]


# Modules that are not those of a layer's name in torch.nn.
_MODULES: dict[str, type[Any]] = {
    "Concat": Concat, "LSTM": LSTM, "Residual": Residual, "Scale": Scale,
}  # fmt: skip

_REQUIRED: dict[str, dict[str, Any]] = {
    "BatchNorm1d": {"track_running_stats": True},
    "Embedding": {"padding_idx": None, "max_norm": None, "scale_grad_by_freq": False},
    "Flatten": {"start_dim": 1, "end_dim": -1},
    "LSTM": {"batch_first": True},
    "LogSoftmax": {"dim": -1},
    "Softmax": {"dim": -1},
    "Softplus": {"threshold": 20},
}

# For a layer the first row counts.
KINDS = (
    *(
        Kind(getattr(layers, name), module, _REQUIRED.get(name, {}))
        for name in dir(layers)
        if (module := _MODULES.get(name, getattr(nn, name, None))) and name != "Parameter"
    ),
    Kind(layers.LSTM, nn.LSTM, _REQUIRED["LSTM"]),
    Kind(layers.Sequential, nn.Identity, {}),
)
