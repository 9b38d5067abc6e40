"""What a trainer saves, and how it comes back: all of it, or nothing is changed."""

from __future__ import annotations

import json
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn._door.arrays import describe
from fastnn._planning.carried import CarriedState
from fastnn._typing import Array
from fastnn.optim import Optimizer
from fastnn.safetensors import read_safetensors, save_safetensors
from fastnn.training.accumulation import Accumulation

if TYPE_CHECKING:
    from fastnn.training import Trainer

__all__ = ["model_arrays", "random_key", "restore_trainer", "save_trainer"]

_KEY, _CARRIED, _WAITING = "fastnn.trainer", "carried.", "waiting."


def model_arrays(model: Any) -> dict[str, Array]:
    """Return the live arrays of a model by their names in the file, random states included."""
    arrays = {f"model.{name}": entry.array for name, entry in model._state().items()}
    for path, layer in model._layers():
        if layer._random_state is not None:
            arrays[f"random.{path}"] = layer._random_state
    return arrays


def random_key(key: int, rank: int) -> int:
    """Return the key of a rank's stream of random numbers, where the first rank has `key`."""
    return (key + rank * 0x9E3779B97F4A7C15) % 2**64


def _optimizer_arrays(state: dict[str, dict[str, Array]]) -> dict[str, Array]:
    return {
        f"optimizer.{name}.{slot}": values
        for name, slots in state.items()
        for slot, values in slots.items()
    }


def _some(names: list[str]) -> str:
    """Name the first few."""
    return f"[{', '.join(names[:3])}{', …' * (len(names) > 3)}]"


def save_trainer(trainer: Trainer, path: str | PathLike[str]) -> None:
    """Write a trainer's state; see `Trainer.save`."""
    optimizer = trainer.optimizer
    if optimizer is None:
        raise ValueError("optimizer: expected one whose state can be saved, got None")
    if trainer._group is not None and trainer._accumulation.count:
        raise RuntimeError(
            "save: expected no gradients that wait for an update, of which each rank has its own, "
            f"got those of {trainer._accumulation.count} batches"
        )
    if trainer.rank > 0:
        return
    with trainer.model._built().lock, optimizer._lock:
        described = optimizer._describe()
        arrays = model_arrays(trainer.model) | _optimizer_arrays(described.pop("state"))
        arrays |= {_CARRIED + name: state for name, state in trainer._carried.states.items()}
        waiting = trainer._accumulation
        arrays |= {_WAITING + parameter.name: a for parameter, a in waiting.sums.items()}
        rest = {
            "optimizer": described, "l2": trainer.l2, "l2_on": trainer.l2_on,
            "clip_norm": trainer.clip_norm, "clip_value": trainer.clip_value,
            "accumulate": trainer.accumulate, "waiting": [waiting.total, waiting.count],
            "precision": trainer.precision, "stateful": trainer.stateful,
            "sync_batchnorm": trainer.sync_batchnorm, "rng": trainer.rng.bit_generator.state,
        }  # fmt: skip
        # numpy scalars among the hyper-parameters become Python's
        save_safetensors(path, arrays, {_KEY: json.dumps(rest, default=lambda v: v.item())})


def restore_trainer(
    cls: type[Trainer], path: Any, model: Any, loss: Any, optimizer: Any, comm: Any
) -> Trainer:
    """Read a trainer's state; see `Trainer.restore`."""
    tensors, metadata = read_safetensors(path)
    if _KEY not in metadata:
        kind = "fastnn.save" if "fastnn.model" in metadata else "arrays alone"
        raise ValueError(f"{path}: expected a file of Trainer.save, got one of {kind}")
    try:
        saved = json.loads(metadata[_KEY])
        rng = np.random.default_rng(0)
        rng.bit_generator.state = saved["rng"]
        state = dict(saved["optimizer"])
        made_by = state["optimizer"]
        options: dict[str, Any] = {"l2": float(saved["l2"])}
        others = ("l2_on", "clip_norm", "clip_value", "accumulate", "stateful")
        options |= {name: saved[name] for name in others}
        # not in files of before 0.2
        options["precision"] = saved.get("precision", "float32")
        options["sync_batchnorm"] = saved.get("sync_batchnorm", False)
        total, count = saved["waiting"]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path}: expected what Trainer.save writes, got a description of the training that "
            f"cannot be read ({type(error).__name__}: {error})"
        ) from None
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"optimizer: expected a fastnn optimizer, got {describe(optimizer)}")
    if made_by != (given := type(optimizer).__name__):
        raise ValueError(
            f"{path}: optimizer: saved by {made_by}, given {given}; give restore the optimizer "
            "with which the training began"
        )
    trainer = cls(model, loss, optimizer, comm=comm, **options)
    names = [name for name in tensors if trainer.stateful and name.startswith(_CARRIED)]
    carried = {name.removeprefix(_CARRIED): tensors.pop(name) for name in names}
    waiting = {
        parameter: tensors.pop(name)
        for parameter in model.parameters()
        if (name := _WAITING + parameter.name) in tensors
        and (tensors[name].shape, tensors[name].dtype) == (parameter.shape, parameter.array.dtype)
    }
    with model._built().lock, optimizer._lock:
        own = model_arrays(model)
        states = optimizer._describe()["state"]
        expected = own | _optimizer_arrays(states)
        if tensors.keys() != expected.keys():
            missing = sorted(expected.keys() - tensors.keys())
            unknown = sorted(tensors.keys() - expected.keys())
            raise ValueError(
                f"{path}: expected the arrays of this model and optimizer, got none for "
                f"{_some(missing)} and further ones {_some(unknown)}; make both as they were made "
                "for the training that was saved"
            )
        for name, array in expected.items():
            if (tensors[name].shape, tensors[name].dtype) != (array.shape, array.dtype):
                raise ValueError(
                    f"{path}: {name}: expected {describe(array)}, got {describe(tensors[name])}"
                )
        state["state"] = {
            name: {slot: tensors[f"optimizer.{name}.{slot}"] for slot in slots}
            for name, slots in states.items()
        }
        try:
            optimizer.load_state_dict(state)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: {error}") from error
        for name, array in own.items():
            array[...] = tensors[name]
        trainer._rng = rng
        if trainer._group is None:  # each rank had sequences of its own
            trainer._carried = CarriedState(carried)
        trainer._accumulation = Accumulation(waiting, total, count)
        trainer._note_how_to_step()
    return trainer
