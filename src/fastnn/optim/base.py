"""What all optimizers share: parameter groups, hyper-parameters, states, the step."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, TypeAlias

import numpy as np

from fastnn._door.arrays import as_any, as_list, as_target, describe, view
from fastnn._door.numbers import below_1, boolean, choice, did_you_mean, limit, pair
from fastnn._kernels.update import Taking, UpdateTable
from fastnn._planning.watched import Watched, new_lock
from fastnn._typing import Array
from fastnn.optim.storage import BLOCK, DTYPES, SCALE, Arena, pack

__all__ = ["Optimizer", "check_betas", "split_eps"]

Schedule: TypeAlias = Callable[[int], float]
Rate: TypeAlias = float | Schedule
Params: TypeAlias = Iterable[Any]  # arrays, objects of `Parameter` or groups of these
# What each hyper-parameter may be: a check of the door's, called with its name and value.
Ranges: TypeAlias = Mapping[str, Callable[[str, Any], Any]]
_SCHEDULED = ("lr", "momentum")


def _expect_keys(value: Any, keys: Iterable[str], name: str, optional: Iterable[str] = ()) -> None:
    """Raise unless `value` is a mapping with these keys."""
    if not isinstance(value, Mapping):
        raise TypeError(f"{name}: expected a dict, got {describe(value)}")
    if value.keys() - set(optional) != set(keys):
        raise ValueError(f"{name}: expected the keys {sorted(keys)}, got {sorted(value, key=str)}")


def split_eps(hyper: Mapping[str, Any]) -> tuple[float, float]:
    """Return ε outside and ε inside the square root; one of them is 0."""
    eps = float(hyper["eps"])
    return (0.0, eps) if hyper["eps_inside_sqrt"] else (eps, 0.0)


def check_betas(name: str, value: Any) -> None:
    """Raise unless `value` is a pair of numbers in [0, 1), β₁ and β₂."""
    beta1, beta2 = pair(name, value)
    below_1("beta1", beta1)
    below_1("beta2", beta2)


class Optimizer(Watched):
    """Base of all optimizers; use one of its subclasses.

    A subclass names its kernel, its states and what its hyper-parameters may be, and turns those of
    one group at one step into the kernel's scalars. Everything else is here.

    Parameters
    ----------
    params : iterable
        What to train, changed in place: float32 or float64 arrays (NumPy arrays, memmaps, PyTorch
        CPU tensors, anything with the buffer protocol or ``__dlpack__``), `Parameter` objects of a
        layer, or dicts ``{"params": [...], "lr": 0.1, ...}``, groups with hyper-parameters of
        their own.
    hyper : dict
        The hyper-parameters of a group that does not say otherwise.
    clip_norm : float, optional
        Scale the gradients of all groups together so that their Euclidean norm is at most this.
        Gradients are scaled as they are read; the arrays stay as they are.
    maximize : bool
        Climb instead of descend.
    check_finite : bool
        Refuse a step with NaN or infinity in a gradient, instead of taking it.
    state_dtype : {None, "bfloat16", "int8"}
        Store the states in 16 or 8 bits per element instead of the parameter's, which is faster
        where memory is the limit. `optim.storage` says what the numbers in `state` mean then.
    """

    _kernel: ClassVar[str]
    _second_kernel: ClassVar[str | None] = None
    _slots: ClassVar[tuple[str, ...]]  # all states, in the order of the kernel's pointers
    _ranges: ClassVar[Ranges]

    def __init__(
        self,
        params: Params,
        hyper: dict[str, Any],
        clip_norm: float | None = None,
        maximize: bool = False,
        check_finite: bool = False,
        state_dtype: str | None = None,
    ) -> None:
        if clip_norm is not None:
            limit("clip_norm", clip_norm)
        boolean("maximize", maximize)
        boolean("check_finite", check_finite)
        choice("state_dtype", state_dtype, (None, *DTYPES))
        self.clip_norm, self.maximize, self.check_finite = clip_norm, maximize, check_finite
        self.state_dtype = state_dtype
        self.t, self._watchers = 0, None
        self.groups = self._read_groups(params, hyper)
        self._lock = new_lock()
        for group in self.groups:
            self._check_group(group, None)
        self._structure = [self._state_names(group) for group in self.groups]
        sources = [source for group in self.groups for source in group["params"]]
        self._names: list[str] = []
        for i, source in enumerate(sources):
            name = source.name if hasattr(source, "grad_array") else f"params[{i}]"
            self._names.append(f"params[{i}] ({name})" if name in self._names else name)
        arrays = [
            as_target(source.array if hasattr(source, "grad_array") else source, name)
            for source, name in zip(sources, self._names, strict=True)
        ]
        self._check_sparse(sources, arrays)
        self._group_of = [g for g, group in enumerate(self.groups) for _ in group["params"]]
        self._table = self._make_table(sources, arrays, self._make_states(arrays))
        self._read_hyper_parameters()

    # What a subclass says --------------------------------------------------------------------

    def _state_names(self, group: Mapping[str, Any]) -> tuple[str, ...]:
        """Return which of `_slots` a group needs."""
        return self._slots

    def _initial(self, state: str, group: Mapping[str, Any]) -> float:
        """Return the first value of a state."""
        return 0.0

    @staticmethod
    def _scalars(hyper: Mapping[str, Any]) -> tuple[Any, ...]:
        """Return the kernel's scalars after the first, which scales the gradient.

        `hyper` holds plain numbers; what changes from step to step is made by `corrected`,
        `rooted`, `slowed` or `started`.
        """
        raise NotImplementedError

    @staticmethod
    def _gain(hyper: Mapping[str, Any]) -> float:
        """Return what the gradient is multiplied by, as the kernel reads it."""
        return 1.0

    def _check(self, group: Mapping[str, Any]) -> None:
        """Raise ValueError for hyper-parameters of a group that do not go together."""

    # Groups ----------------------------------------------------------------------------------

    def _read_groups(self, params: Params, hyper: dict[str, Any]) -> list[dict[str, Any]]:
        params = as_list(params, "params")
        if not params:
            raise ValueError("params: expected at least one array, got none")
        if not isinstance(params[0], Mapping):
            params = [{"params": params}]
        groups = []
        for i, given in enumerate(params):
            if not isinstance(given, Mapping) or "params" not in given:
                raise TypeError(
                    f"params[{i}]: expected a dict with the key 'params', as the first is one, "
                    f"got {describe(given)}"
                )
            members = given["params"]
            single = view(members) is not None or hasattr(members, "grad_array")
            group = {**hyper, **given, "params": [members] if single else list(members)}
            unknown = group.keys() - hyper.keys() - {"params"}
            if unknown:
                raise ValueError(
                    f"params[{i}]: expected hyper-parameters among {', '.join(hyper)}, "
                    f"got {', '.join(sorted(map(str, unknown)))}"
                )
            groups.append(group)
        return groups

    def _check_group(self, group: Mapping[str, Any], structure: tuple[str, ...] | None) -> None:
        """Raise unless the hyper-parameters are allowed and need the states that are there."""
        for name, value in group.items():
            if name == "params" or (name in _SCHEDULED and callable(value)):
                continue
            if name not in self._ranges:
                raise ValueError(
                    f"groups: expected hyper-parameters among {', '.join(self._ranges)}, "
                    f"got {name!r}{did_you_mean(name, self._ranges)}"
                )
            self._ranges[name](name, value)
        self._check(group)
        needed = self._state_names(group)
        if structure is not None and needed != structure:
            raise ValueError(
                f"groups: expected hyper-parameters that need the states ({', '.join(structure)}) "
                f"with which the optimizer was made, got ones that need ({', '.join(needed)})"
            )

    def _at(self, group: Mapping[str, Any], t: int) -> Mapping[str, Any]:
        """Return a checked group with the values that its schedules have at step t."""
        values = {}
        for name in _SCHEDULED:
            if callable(schedule := group.get(name)):
                values[name] = schedule(t)
                try:
                    self._ranges[name](name, values[name])
                except (TypeError, ValueError) as error:
                    raise type(error)(f"{error} from its schedule at step {t}") from None
        return {**group, **values} if values else group

    @property
    def lr(self) -> float:
        """The learning rate of the step to come, of the first group; settable for all groups."""
        lr = self.groups[0]["lr"]
        return float(lr(self.t) if callable(lr) else lr)

    @lr.setter
    def lr(self, value: Rate) -> None:
        if not callable(value):
            self._ranges["lr"]("lr", value)
        for group in self.groups:
            group["lr"] = value

    # States ----------------------------------------------------------------------------------

    def _check_sparse(self, sources: list[Any], arrays: list[Array]) -> None:
        """Raise if rows that are updated alone would share scales with others."""
        for source, array, name in zip(sources, arrays, self._names, strict=True):
            alone = getattr(source, "sparse", False) and self._second_kernel is None
            if alone and self.state_dtype == "int8" and array.shape[1] % BLOCK:
                raise ValueError(
                    f"state_dtype: expected None or 'bfloat16' for {name}, whose rows are updated "
                    f"alone and have {array.shape[1]} elements, no multiple of the {BLOCK} that "
                    "share a scale; got 'int8'"
                )

    def _make_states(self, arrays: list[Array]) -> list[Array]:
        """Make `state`; return the memory in which all states lie."""
        arena, places = Arena(), []
        int8 = self.state_dtype == "int8"
        for g, array in zip(self._group_of, arrays, strict=True):
            place: dict[str, tuple[Any, int]] = {}
            blocks = -(-array.size // BLOCK)
            dtype: np.dtype[Any] = DTYPES[self.state_dtype] if self.state_dtype else array.dtype
            for name in self._structure[g]:
                key = (name, dtype)
                if int8:
                    place[name] = arena.reserve(key, dtype, blocks * BLOCK, BLOCK)
                    place[name + SCALE] = arena.reserve(name, np.dtype(np.float32), blocks)
                elif array.size < 1024:
                    place[name] = arena.reserve(key, dtype, array.size)
                else:  # begin on a cache line where the parameter does
                    phase = array.ctypes.data // array.itemsize
                    place[name] = arena.reserve(key, dtype, array.size, 16, phase)
            places.append(place)
        self.state: list[dict[str, Array]] = []
        for g, place, array in zip(self._group_of, places, arrays, strict=True):
            state = {}
            for name, where in place.items():
                shape = (-(-array.size // BLOCK),) if name.endswith(SCALE) else array.shape
                state[name] = arena.array(where, shape)
            for name in self._structure[g]:
                if (first := self._initial(name, self.groups[g])) != 0:
                    values, scale = np.full(array.shape, first), None
                    if self.state_dtype:
                        values, scale = pack(name, values, self.state_dtype)
                    state[name][...] = values
                    if scale is not None:
                        state[name + SCALE][...] = scale
            self.state.append(state)
        return arena.blocks()

    def _make_table(
        self, sources: list[Any], arrays: list[Array], memory: list[Array]
    ) -> UpdateTable:
        """Make the table in C."""
        rule_of = [(g, a.dtype.str) for g, a in zip(self._group_of, arrays, strict=True)]
        rules = sorted(set(rule_of))
        self._rule_groups = [g for g, _ in rules]
        stored = f"_{self.state_dtype}" if self.state_dtype else ""
        first, second = self._kernel + stored, self._second_kernel and self._second_kernel + stored
        block = BLOCK if self.state_dtype == "int8" else 1
        slots = [*self._slots, "", ""][:3]
        slots += [slot + SCALE for slot in slots]
        return UpdateTable(
            sources,
            arrays,
            self._names,
            [(first, second, np.dtype(dtype)) for _, dtype in rules],
            [rules.index(rule) for rule in rule_of],
            [tuple(state.get(slot) for slot in slots) for state in self.state],
            memory,
            block,
            second is None and block == 1,
        )

    # The step --------------------------------------------------------------------------------

    def _scalar_rows(self, t: int) -> list[tuple[Any, ...]]:
        """Return the kernels' scalars with the values that schedules have at t, for each rule."""
        sign = -1.0 if self.maximize else 1.0
        groups = [self._at(self.groups[number], t) for number in self._rule_groups]
        return [(sign * self._gain(group), *self._scalars(group)) for group in groups]

    def _read_hyper_parameters(self) -> None:
        """Check what someone has changed, and hand it to the table."""
        for group, structure in zip(self.groups, self._structure, strict=True):
            self._check_group(group, structure)
        self._scheduled = any(
            callable(group.get(name)) for group in self.groups for name in _SCHEDULED
        )
        if not self._scheduled:
            self._table.set_scalars(self._scalar_rows(self.t))
        self._checked, self._climbs = [dict(group) for group in self.groups], self.maximize

    def _prepare(
        self, grads: Sequence[Any] | bool | None, steps: int, clip_norm: float | None
    ) -> UpdateTable:
        """Check everything and return the table ready for the next `steps` steps."""
        if grads is not None and grads is not True and not hasattr(grads, "__iter__"):
            raise TypeError(f"grads: expected a sequence of arrays, got {describe(grads)}")
        if clip_norm is None:
            clip_norm = self.clip_norm
        if clip_norm is not None:
            limit("clip_norm", clip_norm)
        longest = math.inf if clip_norm is None else clip_norm
        if self._checked != self.groups or self._climbs != self.maximize:
            self._read_hyper_parameters()
        rows = None
        if self._scheduled:
            rows = [self._scalar_rows(t) for t in range(self.t, self.t + steps)]
        self._table.prepare(grads, rows, self.t, steps, longest, self.check_finite)
        return self._table

    def step(self, grads: Sequence[Any] | None = None) -> None:
        """Take one step: change every parameter and state in place.

        Parameters
        ----------
        grads : sequence of array_like, optional
            One gradient per parameter, in their order and of their shapes; read only. Other real
            dtypes and orders are converted. Parameters of layers (and PyTorch tensors) have
            gradients of their own, which are used if `grads` is not given.

        Raises
        ------
        TypeError
            If `grads` is missing, or holds something that is no array of real numbers.
        ValueError
            If the number of gradients or a shape is wrong; if a gradient shares memory with a
            parameter or a state; if a parameter was resized or made read-only; if a
            hyper-parameter or the value of a schedule is out of range; if `check_finite` is set
            and a gradient is not finite. Nothing has been changed then.
        RuntimeError
            If a parameter has no gradient yet.
        """
        with Taking(self, grads, 1, None) as table:
            table.run()

    # Saving ----------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return all that a resumed run needs, as copies.

        Returns
        -------
        dict
            ``"optimizer"``, the name of the class; ``"t"``, steps taken; ``"groups"``, for each
            group its hyper-parameters, save those that are schedules, and the names of its
            parameters; ``"state"``, for each parameter's name a dict of arrays.
        """
        with self._lock:
            saved = self._describe()
            for state in saved["state"].values():
                for key, values in state.items():
                    state[key] = values.copy()
            return saved

    def _describe(self) -> dict[str, Any]:
        """Return the state dict with the live arrays."""
        names = iter(self._names)
        groups = []
        for group in self.groups:
            saved = {
                key: value.item() if isinstance(value, np.generic) else value
                for key, value in group.items()
                if key != "params" and not callable(value)
            }
            saved["params"] = [next(names) for _ in group["params"]]
            groups.append(saved)
        state = {name: dict(own) for name, own in zip(self._names, self.state, strict=True)}
        return {"optimizer": type(self).__name__, "t": self.t, "groups": groups, "state": state}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over what `state_dict` returned. A hyper-parameter that is a schedule stays one.

        Parameters
        ----------
        state_dict : dict
            From an optimizer of the same class over parameters of the same names and shapes.

        Raises
        ------
        TypeError, ValueError
            If it does not fit. Nothing has been changed then.
        """
        with self._lock:
            groups, state = self._check_state_dict(state_dict)
            for group, hyper in zip(self.groups, groups, strict=True):
                group.update(hyper)
            for own, loaded in zip(self.state, state, strict=True):
                for key, values in own.items():
                    values[...] = loaded[key]
            self.t = int(state_dict["t"])

    def _check_state_dict(
        self, given: Mapping[str, Any]
    ) -> tuple[list[dict[str, Any]], list[dict[str, Array]]]:
        """Return the hyper-parameters of each group and the states of each parameter to load."""
        own = self._describe()
        _expect_keys(given, own, "state_dict")
        if given["optimizer"] != own["optimizer"]:
            raise ValueError(
                f"state_dict: expected the state of {own['optimizer']}, got {given['optimizer']!r}"
            )
        t = given["t"]
        if isinstance(t, bool) or not isinstance(t, (int, np.integer)) or t < 0:
            raise ValueError(f"state_dict['t']: expected a number of steps, got {t!r}")
        count = len(own["groups"])
        if not isinstance(given["groups"], Sequence) or len(given["groups"]) != count:
            raise ValueError(
                f"state_dict['groups']: expected a list of {count}, got {given['groups']!r}"
            )
        groups = []
        for i, (group, saved, structure) in enumerate(
            zip(self.groups, given["groups"], self._structure, strict=True)
        ):
            name = f"state_dict['groups'][{i}]"
            schedules = {key for key in group if callable(group[key])}
            _expect_keys(saved, group.keys() - schedules, name, optional=schedules)
            if saved["params"] != own["groups"][i]["params"]:
                raise ValueError(
                    f"{name}: expected the parameters {own['groups'][i]['params']}, "
                    f"got {saved['params']}"
                )
            values = {key: saved[key] for key in group.keys() - schedules - {"params"}}
            self._check_group({**group, **values}, structure)
            groups.append(values)
        _expect_keys(given["state"], own["state"], "state_dict['state']")
        for name, expected in own["state"].items():
            saved, place = given["state"][name], f"state_dict['state'][{name!r}]"
            _expect_keys(saved, expected, place)
            for key, values in expected.items():
                loaded = as_any(saved[key], f"{place}[{key!r}]")
                if loaded.shape != values.shape or loaded.dtype != values.dtype:
                    raise ValueError(
                        f"{place}[{key!r}]: expected {describe(values)}, got {describe(loaded)}"
                    )
        return groups, [given["state"][name] for name in self._names]

    def __repr__(self) -> str:
        hyper = {k: v for k, v in self.groups[0].items() if k != "params"}
        arguments = ", ".join(f"{key}={value!r}" for key, value in hyper.items())
        return f"{type(self).__name__}({len(self._names)} arrays, {arguments})"
