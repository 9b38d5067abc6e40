"""What the modules answer who asks for a name that another library has."""

import importlib
import pickle
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fastnn
from fastnn._hints import _OTHERS

HINTS = {
    "Dense": "it is fastnn.Linear(in_features, out_features)",
    "Adam": "it is fastnn.optim.Adam",
    "adam": "it is fastnn.optim.Adam",
    "nn": "layers are in fastnn itself",
    "MSELoss": "it is fastnn.losses.mse",
    "CrossEntropyLoss": "it is fastnn.losses.cross_entropy",
    "Conv2d": "there are no convolutions",
    "BatchNorm": "it is fastnn.BatchNorm1d",
    "Batch_Norm1d": "it is fastnn.BatchNorm1d",
    "MLPClassifier": "it is fastnn.sklearn.MLPClassifier",
    "cross_entropy": "it is fastnn.losses.cross_entropy",
    "softmax": "it is fastnn.Softmax",
    "cosine_decay": "it is fastnn.schedules.cosine_decay",
    "he_normal": "it is fastnn.initializers.he_normal",
    "standardize": "it is fastnn.preprocessing.standardize",
    "jacobian": "it is fastnn.analysis.jacobian",
    "lbfgs": "it is fastnn.solvers.lbfgs",
    "learning_curves": "it is fastnn.plot.learning_curves",
    "Sequental": "did you mean fastnn.Sequential?",
    "optim.adam": "it is fastnn.optim.Adam",
    "optim.Linear": "it is fastnn.Linear",
    "layers.Dense": "it is fastnn.Linear",
    "losses.MSELoss": "it is fastnn.losses.mse",
    "losses.binary_cross_entropy": "it is fastnn.losses.binary_cross_entropy_with_logits",
    "cosine": "or fastnn.schedules.cosine_decay?",
    "glorot_uniform": "it is fastnn.initializers.xavier_uniform",
    "LearningRateScheduler": "an optimizer takes a schedule",
    "ops.Softmax": "it is fastnn.ops.softmax",
}


@pytest.mark.parametrize("name", HINTS)
def test_other_names_are_answered(name):
    *modules, last = name.split(".")
    module = importlib.import_module(".".join(["fastnn", *modules]))
    with pytest.raises(AttributeError, match=f"has no attribute '{last}'; ") as caught:
        getattr(module, last)
    assert HINTS[name] in str(caught.value)


def test_a_name_like_no_other_has_no_hint():
    assert not hasattr(fastnn, "qwertyuiop")
    with pytest.raises(AttributeError, match=r"'qwertyuiop'$"):
        fastnn.qwertyuiop  # noqa: B018
    with pytest.raises(AttributeError, match=r"'__wrapped__'$"):
        fastnn.optim.__wrapped__  # noqa: B018


@pytest.mark.parametrize("name", _OTHERS)
def test_hints_name_what_exists(name):
    for path in re.findall(r"fastnn((?:\.\w+)+)", _OTHERS[name]):
        if path.startswith(".onnx"):
            pytest.importorskip("onnx")
        thing = fastnn
        for part in path[1:].split("."):
            thing = getattr(thing, part)


def test_hints_cost_an_import_nothing():
    code = "import sys, fastnn; print('fastnn._hints' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "False"


def test_optimizers_are_found_by_their_files():
    """Files of the optimizers are not attributes of the package, and need not be."""
    from fastnn.optim.adam import Adam

    optimizer = pickle.loads(pickle.dumps(fastnn.optim.Adam([np.zeros(2)])))
    assert type(optimizer) is Adam


def test_messages_name_the_package_that_is_missing():
    for path in Path(fastnn.__file__).parent.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        extras = len(re.findall(r"pip install \"fastnn-cpu\[", text))
        assert len(re.findall(r"which is not installed: pip install [\w-]+, or", text)) == extras, (
            path
        )
