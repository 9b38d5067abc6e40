"""What all optimizers share: parameter groups, hyper-parameters, states, the step."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import inf
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, Self, TypeAlias

import numpy as np

from fastnn._door.arrays import as_any, as_list, as_target, describe
from fastnn._door.numbers import below_1, boolean, choice, did_you_mean, integer, limit, pair
from fastnn._kernels.update import Taking, UpdateTable, unchanged
from fastnn._planning.moment import state_of_one_moment, without_moment
from fastnn._planning.watched import Watched, new_lock
from fastnn._typing import Array
from fastnn.optim.state import State
from fastnn.optim.storage import BLOCK, DTYPES, SCALE, Arena, pack
from fastnn.optim.tree import Form, collect, gradients

__all__ = ["Optimizer", "check_betas", "split_eps"]

Schedule: TypeAlias = Callable[[int], float]
Rate: TypeAlias = float | Schedule
Params: TypeAlias = Iterable[Any]  # arrays, objects of `Parameter` or groups of these
# What each hyper-parameter may be: a check of the door's, called with its name and value.
Ranges: TypeAlias = Mapping[str, Callable[[str, Any], Any]]
Group: TypeAlias = dict[str, Any]
_SCHEDULED = ("lr", "momentum")
_OPTIONS = ("clip_norm", "clip_value", "maximize", "check_finite")  # of the whole optimizer
_FIXED = {  # why an attribute cannot be assigned
    "groups": "change the values in its dicts; add_param_group(group) adds one",
    "state": "state[i][name] = array changes a state; reset_state() lets all start anew",
    "state_dtype": "fixed when the optimizer is made; make another one",
}


def _expect_keys(value: Any, keys: Iterable[str], name: str, optional: Iterable[str] = ()) -> None:
    """Raise unless `value` is a mapping with these keys."""
    if not isinstance(value, Mapping):
        raise TypeError(f"{name}: expected a dict, got {describe(value)}")
    if value.keys() - set(optional) != set(keys):
        raise ValueError(f"{name}: expected the keys {sorted(keys)}, got {sorted(value, key=str)}")


def split_eps(hyper: Mapping[str, Any]) -> tuple[float, float]:
    """Return ε outside and ε inside the square root; one of them is 0."""
    eps = hyper["eps"]
    return (0.0, eps) if hyper["eps_inside_sqrt"] else (eps, 0.0)


def check_betas(name: str, value: Any) -> tuple[float, float]:
    """Return a pair of numbers in [0, 1), β₁ and β₂, as a tuple, or raise."""
    beta1, beta2 = pair(name, value)
    return below_1("beta1", beta1), below_1("beta2", beta2)


def _limit_or_none(name: str, value: Any) -> float | None:
    return None if value is None else limit(name, value)


def _option(name: str, check: Callable[[str, Any], Any], doc: str) -> Any:
    """An option of the whole optimizer, checked; it counts from the next step on."""

    def read(self: Any) -> Any:
        return getattr(self, "_" + name)

    def write(self: Any, value: Any) -> None:
        value = check(name, value)
        with self._lock:
            setattr(self, "_" + name, value)
            if self._table is not None:
                self._set_scalars()

    return property(read, write, doc=doc)


def _hyper_parameter(name: str) -> property:
    """A hyper-parameter of all groups."""

    def read(self: Optimizer) -> Any:
        return self._get(name)

    def write(self: Optimizer, value: Any) -> None:
        self._set(name, value)

    doc = f"`{name}` at the step to come: one value, or a list of one per group where they differ."
    return property(read, write, doc=doc)


class Optimizer(Watched):
    """Base of all optimizers; use one of its subclasses.

    A subclass names its kernel, its states and what its hyper-parameters may be, and turns those of
    one group at one step into the kernel's scalars. Everything else is here.

    Parameters
    ----------
    params : iterable
        What to train, changed in place: float32 or float64 arrays (NumPy arrays, memmaps, PyTorch
        CPU tensors, anything with the buffer protocol or ``__dlpack__``), `Parameter` objects of a
        layer, dicts or nested lists of these, or groups with hyper-parameters of their own,
        ``[{"params": [...], "lr": 0.1, ...}, ...]``.
    hyper : dict
        The hyper-parameters of a group that does not say otherwise.
    clip_norm : float, optional
        Scale the gradients of all groups together so that their Euclidean norm is at most this.
        Gradients are scaled as they are read; the arrays stay as they are. A NaN in any of them
        makes all of them NaN.
    maximize : bool
        Climb instead of descend.
    check_finite : bool
        Refuse a step with NaN or infinity in a gradient, instead of taking it.
    state_dtype : {None, "bfloat16", "int8"}
        Store the states in 16 or 8 bits per element instead of the parameter's, which is faster
        where memory is the limit. `optim.storage` says what the numbers in `state` mean then.
    clip_value : float, optional
        Bring every element of the gradients into [-clip_value, clip_value] as it is read, before
        `clip_norm`; a NaN stays one.

    Notes
    -----
    Every hyper-parameter is an attribute, `lr`, `weight_decay` and so on: read, it is one value, or
    a list with one per group where they differ (of a schedule, its value at the step to come); one
    that is assigned, or such a list, counts for all groups from the next step on, and so does what
    is changed in ``groups[i]``. States that a hyper-parameter needs come and go with it. So do
    `clip_norm`, `clip_value`, `maximize` and `check_finite`. `t`, the number of steps taken, can be
    assigned.

    An optimizer can be pickled and copied. Gradients are left out; parameters are copied along, and
    stay those of a model that is copied with it, as in ``copy.deepcopy((model, optimizer))``.
    """

    _kernel: ClassVar[str]
    _second_kernel: ClassVar[str | None] = None
    _slots: ClassVar[tuple[str, ...]]  # all states, in the order of the kernel's pointers
    _ranges: ClassVar[Ranges]
    _begun: ClassVar[Mapping[str, str]] = {}  # hyper-parameters that have had their effect, and why

    if TYPE_CHECKING:  # the hyper-parameters, which `__init_subclass__` makes

        def __getattr__(self, name: str) -> Any: ...

    def __init_subclass__(cls) -> None:
        for name in cls.__dict__.get("_ranges", ()):
            setattr(cls, name, _hyper_parameter(name))
        # for help(): the names and defaults, without annotations
        whole = inspect.signature(cls.__init__)
        plain = [p.replace(annotation=p.empty) for p in whole.parameters.values()]
        cls.__init__.__signature__ = inspect.Signature(plain)  # type: ignore[attr-defined]

    def __init__(
        self,
        params: Params,
        hyper: dict[str, Any],
        clip_norm: float | None = None,
        maximize: bool = False,
        check_finite: bool = False,
        state_dtype: str | None = None,
        clip_value: float | None = None,
    ) -> None:
        self._start()
        self.clip_norm, self.clip_value = clip_norm, clip_value
        self.maximize, self.check_finite = maximize, check_finite
        self._state_dtype = choice("state_dtype", state_dtype, (None, *DTYPES))
        self._hyper, self._t = hyper, 0
        self._groups: tuple[Group, ...] = ()
        self._forms: tuple[Form, ...] = ()
        self._names: tuple[str, ...] = ()
        self._states: tuple[State, ...] = ()
        self._add(self._read_groups(params))

    def _start(self) -> None:
        """Make what no copy shares."""
        self._lock, self._watchers = new_lock(), ()
        self._table: UpdateTable | None = None
        self._read: tuple[Group, ...] = ()  # the groups as they were when last read

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

    # Attributes ------------------------------------------------------------------------------

    def __setattr__(self, name: str, value: Any) -> None:
        if not name.startswith("_"):
            there = getattr(type(self), name, None)
            if not isinstance(there, property) or there.fset is None:
                self._refuse(name, there)
        super().__setattr__(name, value)

    def _refuse(self, name: str, there: Any) -> NoReturn:
        if there is not None:
            raise AttributeError(f"{name}: cannot be assigned; {_FIXED.get(name, 'a method')}")
        settable = [*self._ranges, *_OPTIONS, "t"]
        raise AttributeError(
            f"{name}: {type(self).__name__} has no such attribute, but {', '.join(settable)}"
            f"{did_you_mean(name, settable)}"
        )

    _clip_norm: float | None
    _clip_value: float | None
    _maximize: bool
    _check_finite: bool
    _state_dtype: str | None

    clip_norm = _option("clip_norm", _limit_or_none, "Largest norm of all gradients together.")
    clip_value = _option("clip_value", _limit_or_none, "Largest size of an element of a gradient.")
    maximize = _option("maximize", boolean, "Whether to climb instead of descend.")
    check_finite = _option("check_finite", boolean, "Whether to refuse gradients that are not.")

    @property
    def state_dtype(self) -> str | None:
        """How the states are stored, which stays the same."""
        return self._state_dtype

    @property
    def groups(self) -> tuple[Group, ...]:
        """The groups: dicts of their "params" and hyper-parameters, which can be changed there."""
        return self._groups

    @property
    def state(self) -> tuple[State, ...]:
        """For each parameter its states by name: live arrays."""
        with self._lock:
            self._ready()
            return self._states

    @property
    def t(self) -> int:
        """Steps taken."""
        return self._t

    @t.setter
    def t(self, value: int) -> None:
        with self._lock:
            self._t = integer("t", value, 0)

    def _get(self, name: str) -> Any:
        """Return a hyper-parameter: one value, or a list of one per group."""
        values = [self._at(group, self._t)[name] for group in self._groups]
        return values[0] if all(value == values[0] for value in values) else values

    def _set(self, name: str, value: Any) -> None:
        """Change a hyper-parameter in all groups."""
        if name in self._begun:
            raise AttributeError(f"{name}: {self._begun[name]}")
        with self._lock:
            self._ready()
            self._refresh()
            each = isinstance(value, (list, tuple))
            if each and self._ranges[name] is check_betas:  # one pair is meant for all
                each = all(isinstance(pair, Sequence) for pair in value)
            if each and len(value) != len(self._groups):
                raise ValueError(
                    f"{name}: expected one value for all groups or a list of "
                    f"{len(self._groups)}, one per group, got {value!r}"
                )
            values = value if each else [value] * len(self._groups)
            changed = [
                self._checked(i, {**group, name: new})
                for i, (group, new) in enumerate(zip(self._groups, values, strict=True))
            ]
            for group, new in zip(self._groups, changed, strict=True):
                group[name] = new[name]
            if not each:
                self._hyper = {**self._hyper, name: changed[0][name]}
            self._refresh()

    # Groups ----------------------------------------------------------------------------------

    def _read_groups(self, params: Params) -> list[tuple[Group, Form, list[str | None]]]:
        """Return groups, with their parameters in a tuple, and the forms and names of these."""
        if not isinstance(params, Mapping):
            params = as_list(params, "params")
        if not params:
            raise ValueError("params: expected at least one array, got none")
        grouped = isinstance(params, list) and isinstance(params[0], Mapping)
        if not (grouped and "params" in params[0]):
            params = [{"params": params}]
        return [self._read_group(given, f"params[{i}]") for i, given in enumerate(params)]

    def _read_group(self, given: Any, name: str) -> tuple[Group, Form, list[str | None]]:
        if not isinstance(given, Mapping) or "params" not in given:
            raise TypeError(
                f"{name}: expected a dict with the key 'params', as groups are, "
                f"got {describe(given)}"
            )
        unknown = given.keys() - self._hyper.keys() - {"params"}
        if unknown:
            raise ValueError(
                f"{name}: expected hyper-parameters among {', '.join(self._hyper)}, "
                f"got {', '.join(sorted(map(str, unknown)))}"
            )
        form, sources, names = collect(given["params"])
        return {**self._hyper, **given, "params": tuple(sources)}, form, names

    def add_param_group(self, group: Mapping[str, Any]) -> None:
        """Train more: their states start now, and the others' stay as they are.

        Parameters
        ----------
        group : dict
            ``"params"`` and hyper-parameters, as for the constructor, whose values hold where it
            does not say otherwise. Bias corrections go on counting all steps of the optimizer.

        Raises
        ------
        TypeError, ValueError
            As at the constructor; if one of the parameters is trained already; or if a `Trainer`
            holds the optimizer and they are not its model's. Nothing has been changed then.
        """
        with self._lock:
            self._ready()
            self._refresh()
            self._add([self._read_group(group, "group")])

    def _add(self, given: list[tuple[Group, Form, list[str | None]]]) -> None:
        """Take groups in, or raise and change nothing."""
        new = [self._checked(len(self._groups) + i, group) for i, (group, *_) in enumerate(given)]
        names, taken = list(self._names), set(self._names)
        for group, _, own in given:
            for source, name in zip(group["params"], own, strict=True):
                place = f"params[{len(names)}]"
                name = source.name if hasattr(source, "grad_array") else name or place
                names.append(f"{place} ({name})" if name in taken else name)
                taken.add(names[-1])
        before = (self._names, self._forms, self._groups, self._states, self._table)
        forms = (*self._forms, *(form for _, form, _ in given))
        states = (*self._states, *(State({}, self._state_dtype) for _ in names[len(self._names):]))
        groups = (*self._groups, *new)
        try:
            self._names, self._forms, self._groups, self._states = (
                tuple(names), forms, groups, states,
            )  # fmt: skip
            self._build()
            self.changed()
        except BaseException:
            self._names, self._forms, self._groups, self._states, self._table = before
            if self._table is not None:
                self._build()
                self.changed()
            raise

    def _checked(self, i: int, group: Group) -> Group:
        """Return a group with its values as the constructor takes them, or raise."""
        names = ["params", *self._hyper]
        for name in group:
            if name not in names:
                raise ValueError(
                    f"groups[{i}]: expected hyper-parameters among {', '.join(self._hyper)}, "
                    f"got {name!r}{did_you_mean(name, names)}"
                )
        if missing := [name for name in names if name not in group]:
            raise ValueError(
                f"groups[{i}]: expected the keys {', '.join(names)}, got none of "
                f"{', '.join(missing)}"
            )
        checked = {
            name: value
            if name == "params" or (name in _SCHEDULED and callable(value))
            else self._ranges[name](name, value)
            for name, value in group.items()
        }
        self._check(checked)
        return checked

    def _refresh(self) -> None:
        """Take in what someone has changed in the groups, or raise and change nothing."""
        if unchanged(self._groups, self._read):
            return
        changed = [self._checked(i, group) for i, group in enumerate(self._groups)]
        for i, (group, read) in enumerate(zip(changed, self._read, strict=True)):
            if group["params"] is not read["params"]:
                raise ValueError(
                    f"groups[{i}]['params']: cannot be changed; add_param_group(group) adds some, "
                    "and another optimizer trains others"
                )
            for name, why in self._begun.items():
                if group[name] != read[name]:
                    raise ValueError(f"{name}: {why}")
        for group, new in zip(self._groups, changed, strict=True):
            group.update(new)
        if [self._state_names(group) for group in changed] != self._structure:
            self._build()
        else:
            self._read = tuple(changed)
            self._set_scalars()

    def _at(self, group: Mapping[str, Any], t: int) -> Mapping[str, Any]:
        """Return a checked group with the values that its schedules have at step t."""
        values = {}
        for name in _SCHEDULED:
            if callable(schedule := group.get(name)):
                value = schedule(t)
                try:
                    values[name] = self._ranges[name](name, value)
                except (TypeError, ValueError) as error:
                    raise type(error)(f"{error} from its schedule at step {t}") from None
        return {**group, **values} if values else group

    # States and the table --------------------------------------------------------------------

    def _ready(self) -> UpdateTable:
        """Return the table; a copy makes its own only now, when its model has been built."""
        if self._table is None:
            self._build()
        assert self._table is not None
        return self._table

    def _build(self) -> None:
        """Make the states that are missing, forget those no longer needed, and make the table."""
        groups, names = self._groups, self._names
        structure = [self._state_names(group) for group in groups]
        sources = [source for group in groups for source in group["params"]]
        group_of = [g for g, group in enumerate(groups) for _ in group["params"]]
        known = self._table.current() if self._table is not None else []
        arrays = known + [
            as_target(source.array if hasattr(source, "grad_array") else source, name)
            for source, name in zip(sources[len(known):], names[len(known):], strict=True)
        ]  # fmt: skip
        self._check_sparse(sources, arrays)
        needed = [structure[g] for g in group_of]
        # a copy has states, but in memory of their own: they move side by side
        kept: list[dict[str, Array]] = [
            {} if self._table is None else dict(state) for state in self._states
        ]
        states = self._make_states(arrays, needed, kept)
        for i, state in enumerate(states):
            for key, values in state.items():
                if key in kept[i]:
                    continue
                if key in self._states[i]:
                    values[...] = self._states[i][key]
                elif not key.endswith(SCALE) and self._initial(key, groups[group_of[i]]):
                    self._begin(key, groups[group_of[i]], state)
        table = self._make_table(sources, arrays, group_of, states)
        for view, state in zip(self._states, states, strict=True):
            view._arrays = state
        self._group_of, self._structure, self._table = group_of, structure, table
        self._flat = all(form is None or form == [None] * len(form) for form in self._forms)
        self._read = tuple(dict(group) for group in groups)
        self._set_scalars()

    def _make_states(
        self, arrays: list[Array], needed: list[tuple[str, ...]], kept: list[dict[str, Array]]
    ) -> list[dict[str, Array]]:
        """Return the states of each parameter, those that are not kept as zeros."""
        arena, places = Arena(), []
        int8 = self._state_dtype == "int8"
        for array, names, have in zip(arrays, needed, kept, strict=True):
            place: dict[str, tuple[Any, int] | None] = {}
            blocks = -(-array.size // BLOCK)
            stored = self._state_dtype
            dtype: np.dtype[Any] = DTYPES[stored] if stored else array.dtype
            for name in names:
                key = (name, dtype)
                if name in have:
                    place |= dict.fromkeys((name, name + SCALE) if int8 else (name,))
                elif int8:
                    place[name] = arena.reserve(key, dtype, blocks * BLOCK, BLOCK)
                    place[name + SCALE] = arena.reserve(name, np.dtype(np.float32), blocks)
                elif array.size < 1024:
                    place[name] = arena.reserve(key, dtype, array.size)
                else:  # begin on a cache line where the parameter does
                    phase = array.ctypes.data // array.itemsize
                    place[name] = arena.reserve(key, dtype, array.size, 16, phase)
            places.append(place)
        states = []
        for array, place, have in zip(arrays, places, kept, strict=True):
            state = {}
            for name, where in place.items():
                shape = (-(-array.size // BLOCK),) if name.endswith(SCALE) else array.shape
                state[name] = have[name] if where is None else arena.array(where, shape)
            states.append(state)
        return states

    def _begin(self, name: str, group: Mapping[str, Any], state: dict[str, Array]) -> None:
        """Give a state its first value."""
        values, scale = np.full(state[name].shape, self._initial(name, group)), None
        if self._state_dtype and values.any():
            values, scale = pack(name, values, self._state_dtype)
        state[name][...] = values
        if name + SCALE in state:
            state[name + SCALE][...] = 0 if scale is None else scale

    def reset_state(self) -> None:
        """Let all states, and the count of steps, start anew."""
        with self._lock:
            self._ready()
            self._refresh()
            for g, state in zip(self._group_of, self._states, strict=True):
                for name in self._structure[g]:
                    self._begin(name, self._groups[g], state._arrays)
            self._t = 0

    def _check_sparse(self, sources: list[Any], arrays: list[Array]) -> None:
        """Raise if rows that are updated alone would share scales with others."""
        for source, array, name in zip(sources, arrays, self._names, strict=True):
            alone = getattr(source, "sparse", False) and self._second_kernel is None
            if alone and self._state_dtype == "int8" and array.shape[1] % BLOCK:
                raise ValueError(
                    f"state_dtype: expected None or 'bfloat16' for {name}, whose rows are updated "
                    f"alone and have {array.shape[1]} elements, no multiple of the {BLOCK} that "
                    "share a scale; got 'int8'"
                )

    def _make_table(
        self,
        sources: list[Any],
        arrays: list[Array],
        group_of: list[int],
        states: list[dict[str, Array]],
    ) -> UpdateTable:
        """Make the table in C."""
        rule_of = [(g, a.itemsize) for g, a in zip(group_of, arrays, strict=True)]
        rules = sorted(set(rule_of))
        self._rule_groups = [g for g, _ in rules]
        stored = f"_{self._state_dtype}" if self._state_dtype else ""
        first, second = self._kernel + stored, self._second_kernel and self._second_kernel + stored
        block = BLOCK if self._state_dtype == "int8" else 1
        slots = [*self._slots, "", ""][:3]
        slots += [slot + SCALE for slot in slots]
        bases: dict[int, Any] = {id(a.base): a.base for state in states for a in state.values()}
        return UpdateTable(
            sources,
            arrays,
            list(self._names),
            [(first, second, np.dtype(f"f{itemsize}")) for _, itemsize in rules],
            [rules.index(rule) for rule in rule_of],
            [tuple(map(state.get, slots)) for state in states],
            list(bases.values()),
            block,
            second is None and block == 1,
        )

    # The step --------------------------------------------------------------------------------

    def _scalar_rows(self, t: int) -> list[tuple[Any, ...]]:
        """Return the kernels' scalars with the values that schedules have at t, for each rule."""
        sign = -1.0 if self._maximize else 1.0
        groups = [self._at(self._read[number], t) for number in self._rule_groups]
        return [(sign * self._gain(group), *self._scalars(group)) for group in groups]

    def _set_scalars(self) -> None:
        """Hand the scalars of all steps to the table, unless they depend on the step."""
        self._scheduled = any(
            callable(group.get(name)) for group in self._read for name in _SCHEDULED
        )
        if not self._scheduled:
            self._ready().set_scalars(self._scalar_rows(self._t))

    def _prepare(
        self,
        grads: Any,
        steps: int,
        clip_norm: float | None,
        clip_value: float | None,
    ) -> UpdateTable:
        """Check everything and return the table ready for the next `steps` steps."""
        table = self._table or self._ready()
        if not unchanged(self._groups, self._read):
            self._refresh()
            table = self._ready()
        if grads is not None and grads is not True:
            grads = self._matched(grads)
        if clip_norm is None and (clip_norm := self._clip_norm) is None:
            clip_norm = inf
        if clip_value is None and (clip_value := self._clip_value) is None:
            clip_value = inf
        rows = None
        if self._scheduled:
            rows = [self._scalar_rows(t) for t in range(self._t, self._t + steps)]
        table.prepare(grads, rows, self._t, steps, clip_norm, clip_value, self._check_finite)
        return table

    def _matched(self, grads: Any) -> Iterable[Any]:
        """Return gradients in the order of the parameters."""
        if self._flat:
            return grads if type(grads) in (list, tuple) else as_list(grads, "grads")
        return gradients(self._forms[0] if len(self._forms) == 1 else [*self._forms], grads)

    def step(self, grads: Sequence[Any] | Mapping[Any, Any] | None = None) -> None:
        """Take one step: change every parameter and state in place.

        Parameters
        ----------
        grads : sequence of array_like, optional
            One gradient per parameter, in their order and of their shapes; read only. Other real
            dtypes and orders are converted. None leaves a parameter and its states alone. For
            parameters in dicts or nested lists, gradients in the same, matched by key; for groups
            of such, a list with one per group. Parameters of layers (and PyTorch tensors) have
            gradients of their own, which are used if `grads` is not given.

        Raises
        ------
        TypeError
            If `grads` is missing, or holds something that is no array of real numbers.
        ValueError
            If the number of gradients, a key or a shape is wrong; if a gradient shares memory with
            a parameter or a state; if a parameter was resized or made read-only; if a
            hyper-parameter or the value of a schedule is out of range; if `check_finite` is set
            and a gradient is not finite. Nothing has been changed then.
        RuntimeError
            If a parameter has no gradient yet.
        """
        with Taking(self, grads, 1, None, None) as table:
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
        self._ready()
        self._refresh()
        names = iter(self._names)
        groups = []
        for group in self._groups:
            saved = {
                key: value
                for key, value in group.items()
                if key != "params" and not callable(value)
            }
            saved["params"] = [next(names) for _ in group["params"]]
            groups.append(saved)
        state = {name: dict(own) for name, own in zip(self._names, self._states, strict=True)}
        return {"optimizer": type(self).__name__, "t": self._t, "groups": groups, "state": state}

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
            for group, hyper in zip(self._groups, groups, strict=True):
                group.update(hyper)
            self._read = tuple(dict(group) for group in self._groups)
            self._set_scalars()
            for own, loaded in zip(self._states, state, strict=True):
                for key, values in own.items():
                    values[...] = loaded[key]
            self._t = int(state_dict["t"])

    def _check_state_dict(
        self, given: Mapping[str, Any]
    ) -> tuple[list[dict[str, Any]], list[dict[str, Array]]]:
        """Return the hyper-parameters of each group and the states of each parameter to load."""
        own = self._describe()
        _expect_keys(given, own, "state_dict")
        if given["optimizer"] != own["optimizer"]:
            raise ValueError(
                f"state_dict: expected one saved by {own['optimizer']}, got one by "
                f"{given['optimizer']}"
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
            zip(self._groups, given["groups"], self._structure, strict=True)
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
            checked = self._checked(i, {**group, **values})
            if (needed := self._state_names(checked)) != structure:
                raise ValueError(
                    f"{name}: expected hyper-parameters that need the states "
                    f"({', '.join(structure)}), got ones that need ({', '.join(needed)})"
                )
            groups.append({key: checked[key] for key in values})
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

    def __getstate__(self) -> dict[str, Any]:
        """Return what pickle and copy.deepcopy take: states and parameters of one step."""
        return state_of_one_moment(self, self._lock, self._pieces)

    def _pieces(self) -> list[Any]:
        """Return itself and the parameters of models; arrays of a user's own are his."""
        members = (p for group in self._groups for p in group["params"])
        return [self, *(p for p in members if isinstance(p, Watched))]

    def _own_state(self) -> dict[str, Any]:
        """Leave out the lock, the table and whoever watches."""
        with self._lock:
            state = {
                name: getattr(self, name)
                for name in (
                    "_hyper", "_forms", "_names", "_t", "_clip_norm", "_clip_value", "_maximize",
                    "_check_finite", "_state_dtype",
                )
            }  # fmt: skip
            state["_groups"] = tuple(dict(group) for group in self._groups)
            state["_states"] = [
                {name: values.copy() for name, values in own.items()} for own in self._states
            ]
            return state

    def __deepcopy__(self: Self, memo: dict[int, Any]) -> Self:
        """Return an optimizer with arrays of its own; those of a user, too, are of one step."""
        result = object.__new__(type(self))
        memo[id(self)] = result
        with self._lock:
            result.__setstate__(copy.deepcopy(self.__getstate__(), memo))
        return result

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._start()
        for name, value in without_moment(state).items():
            setattr(self, name, value)
        self._states = tuple(State(own, self._state_dtype) for own in state["_states"])

    def _repr_html_(self) -> str:
        from fastnn.introspection.html import of_optimizer

        with self._lock:
            return of_optimizer(self)

    def __repr__(self) -> str:
        shown = [f"{len(self._names)} arrays"]
        defaults = inspect.signature(type(self)).parameters
        for name, check in self._ranges.items():
            values = [group.get(name) for group in self._groups]
            default = defaults[name].default
            if default is not inspect.Parameter.empty:
                default = check(name, default)
            if any(repr(value) != repr(default) for value in values):
                same = all(repr(value) == repr(values[0]) for value in values)
                shown.append(f"{name}={values[0] if same else values!r}")
        for name in (*_OPTIONS, "state_dtype"):
            if (value := getattr(self, name)) != defaults[name].default:
                shown.append(f"{name}={value!r}")
        return f"{type(self).__name__}({', '.join(shown)})"
