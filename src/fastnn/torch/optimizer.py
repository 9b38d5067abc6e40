"""The optimizers in the shape of PyTorch's."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from inspect import signature
from math import inf
from typing import Any

from fastnn import optim
from fastnn._door.numbers import choice
from fastnn._kernels.update import Taking
from fastnn.optim.storage import SCALE
from fastnn.torch._torch import torch

__all__ = ["Optimizer"]

_KINDS = {name.lower(): getattr(optim, name) for name in optim.__all__ if name != "Optimizer"}


class _Part:
    """Parameters that have taken the same steps, and the optimizer that takes them.

    Attributes
    ----------
    places : list of tuple
        For each parameter the number of its group, and the parameter.
    groups : list of int
        Which group each of the optimizer's groups is.
    steps : torch.Tensor
        Steps taken so far, as it stands in the state of each parameter.
    """

    def __init__(self, places: list[tuple[int, Any]], optimizer: optim.Optimizer) -> None:
        self.places, self.optimizer = places, optimizer
        self.groups = list(dict.fromkeys(g for g, _ in places))
        self.steps = torch.tensor(0.0)
        self._structure = optimizer._structure

    def changed(self) -> bool:
        """Return whether states have come or gone with a hyper-parameter since the last call."""
        before, self._structure = self._structure, self.optimizer._structure
        return before is not self._structure

    def states(self) -> dict[Any, dict[str, Any]]:
        """Return the state of each parameter as tensors on the optimizer's memory."""
        return {
            parameter: {"step": self.steps}
            | {name: torch.from_numpy(array) for name, array in state.items()}
            for (_, parameter), state in zip(self.places, self.optimizer.state, strict=True)
        }


class Optimizer(torch.optim.Optimizer):
    """An optimizer of `fastnn.optim` that is one of ``torch.optim``, for whatever takes these.

    Learning-rate schedulers and training loops of PyTorch find what they look for: `param_groups`
    with the hyper-parameters, which they may change, `state` with tensors of PyTorch's names,
    closures and hooks.

    Parameters
    ----------
    params : iterable
        Of CPU tensors of float32 or float64, contiguous, or of dicts with hyper-parameters of their
        own.
    kind : str
        An optimizer of `fastnn.optim` by its name in small letters, such as ``"adam"``.
    **options
        Its arguments.

    Raises
    ------
    TypeError, ValueError
        For another kind of tensor, an argument that the optimizer does not have, or one out of
        range.

    Notes
    -----
    A parameter whose ``grad`` is None is passed over, and the step does not count for it: bias
    correction goes by the steps that each parameter has taken, as in PyTorch. All others are
    updated by one call of C, without the GIL; where parameters have taken different steps, by one
    call for each number of them.

    Examples
    --------
    >>> import torch, fastnn.torch  # doctest: +SKIP
    >>> module = torch.nn.Linear(3, 2)  # doctest: +SKIP
    >>> optimizer = fastnn.torch.Optimizer(module.parameters(), "lamb", lr=1e-2)  # doctest: +SKIP
    """

    def __init__(self, params: Iterable[Any], kind: str = "adam", **options: Any) -> None:
        self.kind = choice("kind", kind, tuple(_KINDS))
        cls = _KINDS[kind]
        given = signature(cls).bind(None, **options)
        given.apply_defaults()
        arguments = {name: value for name, value in given.arguments.items() if name != "params"}
        hyper = {name: arguments.pop(name) for name in cls._ranges}
        self._names = tuple(hyper)  # PyTorch adds names of its own to the defaults
        self._options = arguments  # of all groups together
        self._parts: list[_Part] = []
        super().__init__(params, hyper)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Train further parameters, with hyper-parameters of their own.

        Parameters
        ----------
        param_group : dict
            ``"params"`` and hyper-parameters; those that are missing are the optimizer's.

        Raises
        ------
        TypeError, ValueError
            As for the constructor; nothing has been changed then.
        """
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        try:
            self._add([(len(self.param_groups) - 1, parameter) for parameter in group["params"]])
        except BaseException:
            self.param_groups.pop()
            raise

    def _add(self, places: list[tuple[int, Any]]) -> _Part:
        """Make an optimizer for some of the parameters."""
        groups: dict[int, dict[str, Any]] = {}
        for g, parameter in places:
            if g not in groups:
                hyper = {name: self.param_groups[g][name] for name in self._names}
                groups[g] = {"params": []} | hyper
            groups[g]["params"].append(parameter)
        defaults = {name: self.defaults[name] for name in self._names}
        optimizer = _KINDS[self.kind](list(groups.values()), **defaults, **self._options)
        part = _Part(places, optimizer)
        self._parts.append(part)
        self.state.update(part.states())
        return part

    def _take_over(self, part: _Part, states: dict[Any, dict[str, Any]], steps: int) -> None:
        """Fill the states of a new part with those that its parameters have had."""
        part.optimizer.t = steps
        part.steps.fill_(steps)
        for (_, parameter), own in zip(part.places, part.optimizer.state, strict=True):
            had = {name: value for name, value in states.get(parameter, {}).items()
                   if name != "step" and value is not None}
            if had and had.keys() != own.keys():
                raise ValueError(f"state_dict: expected the states {', '.join(own)}, got "
                                 f"{', '.join(had)}")
            for name, value in had.items():
                own[name] = value.numpy().astype(own[name].dtype)

    def _ready(self) -> list[tuple[_Part, list[Any]]]:
        """Return the parts that have gradients, and these; a part of which some have is split."""
        ready = []
        for part in list(self._parts):
            gradients = [parameter.grad for _, parameter in part.places]
            there = [gradient is not None for gradient in gradients]
            if any(there) and not all(there):
                gradients = [gradient for gradient in gradients if gradient is not None]
                states = {parameter: self.state[parameter] for _, parameter in part.places}
                self._parts.remove(part)
                for kept in (False, True):
                    places = [p for p, t in zip(part.places, there, strict=True) if t is kept]
                    half = self._add(places)
                    self._take_over(half, states, part.optimizer.t)
                part = half
            if any(there):
                ready.append((part, gradients))
        return ready

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step with the gradients that the parameters have.

        Parameters
        ----------
        closure : callable, optional
            Computes the gradients and returns the loss.

        Returns
        -------
        object
            What `closure` returned, or None.

        Raises
        ------
        TypeError, ValueError
            For a gradient of another kind, or a hyper-parameter out of range.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        ready = self._ready()
        if len(ready) > 1:
            ready = self._together(ready)
        with ExitStack() as stack:  # all are checked before one runs
            tables = []
            for part, gradients in ready:
                for own, g in zip(part.optimizer.groups, part.groups, strict=True):
                    own.update((name, self.param_groups[g][name]) for name in self._names)
                limits = (None, None) if len(ready) == 1 else (inf, inf)
                taking = Taking(part.optimizer, gradients, 1, *limits)
                tables.append(stack.enter_context(taking))
            for table in tables:
                table.run()
        for part, _ in ready:
            part.steps.fill_(part.optimizer.t)
            if part.changed():
                self.state.update(part.states())
        return loss

    def _together(self, ready: list[tuple[_Part, list[Any]]]) -> list[tuple[_Part, list[Any]]]:
        """Do for all parts what an optimizer does for all its gradients together."""
        everything = [gradient for _, gradients in ready for gradient in gradients]
        if self._options["check_finite"] and not all(g.isfinite().all() for g in everything):
            raise ValueError("gradients: expected finite values, got NaN or infinity")
        if (largest := self._options["clip_value"]) is not None:
            everything = [gradient.clamp(-largest, largest) for gradient in everything]
        if (longest := self._options["clip_norm"]) is not None:
            norms = [torch.linalg.vector_norm(g, dtype=torch.float64) for g in everything]
            scale = (longest / torch.linalg.vector_norm(torch.stack(norms))).clamp(max=1)
            everything = [gradient * scale.to(gradient.dtype) for gradient in everything]
        clipped = iter(everything)
        return [(part, [next(clipped) for _ in gradients]) for part, gradients in ready]

    # Saving ----------------------------------------------------------------------------------

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what `state_dict` returned, or that of PyTorch's optimizer of the same rule.

        Parameters
        ----------
        state_dict : dict

        Raises
        ------
        ValueError
            If it does not fit; nothing has been changed then.
        """
        packed = self._options["state_dtype"] is not None
        for state in state_dict["state"].values():
            for name, value in state.items():
                kept = name in ("step", *(n for n in state if n.endswith(SCALE)))
                if not kept and value is not None and value.is_floating_point() == packed:
                    raise ValueError(f"state_dict: {name}: expected states as "
                                     f"{self._options['state_dtype']} has them, got {value.dtype}")
        before = {name: self.__dict__[name] for name in ("state", "param_groups", "_parts")}
        try:
            super().load_state_dict(state_dict)
        except BaseException:
            self.__dict__.update(before)
            raise

    def __getstate__(self) -> dict[str, Any]:
        own = {name: self.__dict__[name] for name in ("kind", "_names", "_options")}
        return super().__getstate__() | own

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        states: Any = self.__dict__["state"]
        self.state, self._parts = type(states)(dict), []
        counts: dict[int, list[tuple[int, Any]]] = {}
        for g, group in enumerate(self.param_groups):
            for name in self._names:
                group.setdefault(name, self.defaults[name])
            for parameter in group["params"]:
                # SGD of PyTorch does not count; where it has a buffer it has taken steps
                had = states.get(parameter, {})
                steps = int(had.get("step", bool(had)))
                counts.setdefault(steps, []).append((g, parameter))
        for steps, places in counts.items():
            self._take_over(self._add(places), states, steps)
