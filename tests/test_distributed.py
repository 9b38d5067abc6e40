"""Training on several ranks, which mpiexec starts: the same as on one, and the same end for all."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fastnn
from fastnn.distributed import map_trainers

pytest.importorskip("mpi4py")
PROGRAM = Path(__file__).with_name("distributed_cases.py")
MPIEXEC = Path(sys.executable).with_name("mpiexec")
if not MPIEXEC.exists():
    MPIEXEC = shutil.which("mpiexec") or pytest.skip("no mpiexec", allow_module_level=True)


def run(ranks, *calls):
    """Run cases on so many ranks; a job that hangs is a TimeoutExpired."""
    return subprocess.run(
        [MPIEXEC, "-n", str(ranks), sys.executable, PROGRAM, *calls],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("ranks", [2, 3])
def test_ranks_train_as_one_process_does(ranks):
    done = run(ranks, "equality")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.split("FOUND ")[1].split("\n")[0])
    assert len(found) > 30
    assert not {name: errors for name, errors in found.items() if errors}


@pytest.mark.parametrize("ranks", [2, 3])
def test_ranks_agree(ranks, tmp_path):
    cases = ["sharded", "random_streams", f"agreement,{tmp_path}", "sweep", "caught"]
    done = run(ranks, *cases)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("DONE") == len(cases)
    assert "epoch" not in done.stdout + done.stderr


def test_another_number_of_ranks_goes_on(tmp_path):
    path = tmp_path / "checkpoint"
    for ranks, phase in ((3, "save"), (2, "go on"), (1, "go on")):
        done = run(ranks, f"resume,{path},{phase}")
        assert done.returncode == 0, done.stderr


ENDS = {
    "raising": "KeyError: 'the callback of the last rank'",
    "NaN": "loss: expected a finite number, got nan; x holds numbers that are not finite",
    "labels": "labels: expected integers in [0, 4), got 9",
    "interrupted": "KeyboardInterrupt",
}


@pytest.mark.parametrize("how", ENDS)
def test_an_error_of_one_rank_ends_all(how):
    done = run(3, f"failing,{how}")
    assert done.returncode != 0
    assert done.stderr.count(ENDS[how]) >= 3, done.stderr
    assert done.stderr.count("on rank 2 of 3") >= 3, done.stderr


def test_an_error_outside_of_the_training_ends_all():
    done = run(2, "failing,outside")
    assert done.returncode != 0
    assert "OSError: outside of the training" in done.stderr


@pytest.mark.parametrize("after", np.random.default_rng(0).integers(1, 40, 2))
def test_a_rank_that_dies_after_a_step_ends_all(after):
    assert run(3, f"failing,killed,{after}").returncode != 0


@pytest.mark.parametrize("milliseconds", [0, 17, 150])
def test_a_rank_that_dies_at_some_time_ends_all(milliseconds):
    assert run(2, f"failing,killed at some time,{milliseconds}").returncode != 0


def test_ranks_that_differ_are_noticed():
    done = run(2, "compared")
    assert done.returncode != 0
    assert done.stderr.count("check_ranks: expected the same 0.weight on all ranks") >= 2


# One rank ----------------------------------------------------------------------------------------


def test_one_rank_trains_as_without_a_communicator():
    code = (
        "import numpy as np, fastnn\n"
        "from mpi4py import MPI\n"
        "x = np.ones((8, 3)); found = []\n"
        "for comm in (None, MPI.COMM_WORLD):\n"
        "    model = fastnn.Linear(3, 2, rng=0)\n"
        "    optimizer = fastnn.optim.Adam(model.parameters())\n"
        "    trainer = fastnn.Trainer(model, 'mse', optimizer, comm=comm, sync_batchnorm=True)\n"
        "    trainer.fit(x, x[:, :2], epochs=2, rng=0, sharded=True, check_ranks=1)\n"
        "    found.append(model.weight.data.tobytes())\n"
        "assert found[0] == found[1] and trainer.rank == 0\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


def test_settings_without_a_communicator_are_worked_through_in_order():
    assert map_trainers(lambda setting: 2 * setting, range(4)) == [0, 2, 4, 6]


def test_bad_arguments_are_refused():
    model = fastnn.Linear(3, 2)
    optimizer = fastnn.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(TypeError, match=r"comm: expected an mpi4py\.MPI\.Intracomm, got"):
        fastnn.Trainer(model, "mse", optimizer, comm="world")
    with pytest.raises(ValueError, match=r"loss: expected one of fastnn\.losses"):
        fastnn.Trainer(model, lambda pred, y: (0.0, pred), optimizer, sync_batchnorm=True)
    trainer = fastnn.Trainer(model, "mse", optimizer)
    for name, value, error in (
        ("sharded", 1, TypeError), ("check_ranks", 0, ValueError), ("check_ranks", 0.5, TypeError),
    ):  # fmt: skip
        with pytest.raises(error, match=f"{name}: expected"):
            trainer.fit(np.ones((4, 3)), np.ones((4, 2)), epochs=1, **{name: value})
