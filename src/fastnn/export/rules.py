"""The update rules of optimizers in C."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from fastnn._typing import Array
from fastnn.optim.base import Optimizer


class Rules:
    """What an exported training step does once there are gradients.

    Parameters
    ----------
    optimizer : Optimizer
    names : callable
        Declares a writable array and returns its name in C: of a parameter, of its gradient and of
        a state.

    Raises
    ------
    ValueError
        If a learning rate changes by a schedule, or states are stored in fewer bits.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer, self.kind = optimizer, type(optimizer).__name__
        for group in optimizer.groups:
            for name, value in group.items():
                if callable(value):
                    raise ValueError(f"optimizer: expected a constant {name}, got a schedule")
        if optimizer.state_dtype is not None:
            raise ValueError(
                f"optimizer: expected states of the model's dtype, got "
                f"state_dtype={optimizer.state_dtype!r}"
            )
        if optimizer.check_finite:
            raise ValueError("optimizer: expected check_finite=False, got True")
        self.needs = [self.kind if self.kind != "AdamW" else "Adam"]
        if optimizer.clip_norm is not None:
            self.needs.append("norm_of")

    def _parameters(self) -> Iterator[tuple[int, Any, Any, Any]]:
        states = iter(self.optimizer.state)
        for i, group in enumerate(self.optimizer.groups):
            for parameter in group["params"]:
                yield i, group, parameter, next(states)

    def declarations(self) -> list[str]:
        """Return what is kept from step to step besides arrays."""
        lines = [f"static long steps = {self.optimizer.t};"]
        for i, group in enumerate(self.optimizer.groups):
            if group.get("bias_correction"):
                lines += [
                    f"static double power{k}_{i} = {beta**self.optimizer.t!r};"
                    for k, beta in enumerate(group["betas"], 1)
                ]
        return lines

    def statements(self, declare: Callable[[Any, str, Array | None], str]) -> list[str]:
        """Return the statements of an update; `declare` names arrays in C."""
        work = [
            (i, group, declare(p, "data", None), declare(p, "grad", None), p.size, [
                (name, declare(p, name, array)) for name, array in state.items()])
            for i, group, p, state in self._parameters() if p.trainable
        ]  # fmt: skip
        lines = list(self._clipping(work))
        lines.append("steps++;")
        for i, group in enumerate(self.optimizer.groups):
            if group.get("bias_correction"):
                lines += [f"power{k}_{i} *= {beta!r};" for k, beta in enumerate(group["betas"], 1)]
        for i, group, x, g, n, states in work:
            arguments = getattr(self, f"_{self.kind.lower()}")(i, group, dict(states))
            function = "adam" if self.kind == "AdamW" else self.kind.lower()
            lines.append(
                f"{function}({x}, {g}, {', '.join(arguments[0])}, {n}, "
                f"{', '.join(_literal(a) for a in arguments[1])});"
            )
        return lines

    def _clipping(self, work: list[Any]) -> Iterator[str]:
        """Gradients within clip_value and clip_norm, and with the sign of what is to grow."""
        optimizer = self.optimizer
        factor = "-1" if optimizer.maximize else "1"
        if (most := optimizer.clip_value) is not None:
            for _, _, _, g, n, _ in work:
                yield (
                    f"for (i = 0; i < {n}; i++) {g}[i] = {g}[i] > (real){most!r} ? "
                    f"(real){most!r} : {g}[i] < -(real){most!r} ? -(real){most!r} : {g}[i];"
                )
        if optimizer.clip_norm is not None:
            squares = " + ".join(f"norm_of({g}, {n})" for _, _, _, g, n, _ in work)
            yield f"norm = sqrt({squares});"
            most = optimizer.clip_norm
            yield f"factor = norm <= {most!r} ? {factor} : {factor} * {most!r} / norm;"
            factor = "(real)factor"
        if factor != "1":
            for _, _, _, g, n, _ in work:
                yield f"for (i = 0; i < {n}; i++) {g}[i] *= {factor};"

    @property
    def variables(self) -> list[str]:
        """Return the local variables that the statements need."""
        optimizer = self.optimizer
        lines = []
        if optimizer.clip_norm is not None:
            lines.append("double norm, factor;")
        if (
            optimizer.clip_norm is not None
            or optimizer.clip_value is not None
            or optimizer.maximize
        ):
            lines.append("int i;")
        return lines

    # Arguments: states, and numbers or expressions --------------------------------------------

    def _sgd(self, i: int, h: Any, states: dict[str, str]) -> tuple[list[str], list[Any]]:
        gain = f"steps == 1 ? 1 : {1 - h['dampening']!r}"
        velocity = states.get("momentum_buffer", "0")
        return [velocity], [h["lr"], h["momentum"], gain, h["nesterov"], h["lr_in_velocity"],
                            h["weight_decay"]]  # fmt: skip

    def _nag(self, i: int, h: Any, states: dict[str, str]) -> tuple[list[str], list[Any]]:
        return list(states.values()), [h["lr"], h["momentum"], h["weight_decay"]]

    def _adagrad(self, i: int, h: Any, states: dict[str, str]) -> tuple[list[str], list[Any]]:
        rate = f"{h['lr']!r} / (1 + (double)(steps - 1) * {h['lr_decay']!r})"
        return [states["sum"]], [rate, h["eps"], h["eps_inside_sqrt"], h["weight_decay"]]

    def _rmsprop(self, i: int, h: Any, states: dict[str, str]) -> tuple[list[str], list[Any]]:
        arrays = [states["square_avg"], states.get("grad_avg", "0"),
                  states.get("momentum_buffer", "0")]  # fmt: skip
        return arrays, [h["lr"], h["alpha"], h["eps"], h["eps_inside_sqrt"], h["momentum"],
                        h["weight_decay"]]  # fmt: skip

    def _adam(self, i: int, h: Any, states: dict[str, str]) -> tuple[list[str], list[Any]]:
        arrays = [states["exp_avg"], states["exp_avg_sq"], states.get("max_exp_avg_sq", "0")]
        rate, root, eps = repr(h["lr"]), "1", repr(h["eps"])
        if h["bias_correction"]:
            rate, root = f"{rate} / (1 - power1_{i})", f"1 / sqrt(1 - power2_{i})"
            if h["eps_uncorrected"]:
                eps = f"{eps} / {'' if h['eps_inside_sqrt'] else 'sqrt'}(1 - power2_{i})"
        decay, shrink = h["weight_decay"], 1.0
        if self.kind == "AdamW":
            decay, shrink = 0.0, 1 - h["lr"] * decay
        return arrays, [rate, root, *h["betas"], eps, h["eps_inside_sqrt"], shrink, decay]

    _adamw = _adam

    def _lion(self, i: int, h: Any, states: dict[str, str]) -> tuple[list[str], list[Any]]:
        return [states["exp_avg"]], [h["lr"], *h["betas"], h["weight_decay"]]

    def _lamb(self, i: int, h: Any, states: dict[str, str]) -> tuple[list[str], list[Any]]:
        inverses = ["1", "1"]
        if h["bias_correction"]:
            inverses = [f"1 / (1 - power{k}_{i})" for k in (1, 2)]
        return [states["exp_avg"], states["exp_avg_sq"]], [
            h["lr"], *h["betas"], *inverses, h["eps"], h["eps_inside_sqrt"], h["weight_decay"],
        ]  # fmt: skip


def _literal(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, (bool, np.bool_)):
        return str(int(value))
    return repr(float(value))
