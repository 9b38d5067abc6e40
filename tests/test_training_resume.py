"""A training that is saved and restored goes on as if nothing had been."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fastnn
from fastnn import optim

from .trainer_cases import LABELS, X, assert_same, state


def resumable(rng=0):
    model = fastnn.Sequential(
        fastnn.Linear(6, 16), fastnn.BatchNorm1d(16), fastnn.ReLU(), fastnn.Dropout(0.3),
        fastnn.Linear(16, 3), rng=rng,
    )  # fmt: skip
    schedule = fastnn.schedules.exponential_decay(0.02, 0.01)
    first, *others = model.parameters()
    groups = [{"params": [first], "lr": 0.005}, {"params": others}]
    return model, optim.AdamW(groups, lr=schedule, weight_decay=np.float32(0.1))


@pytest.mark.parametrize("rng", [0, np.random.Generator(np.random.MT19937(3))])
def test_three_epochs_and_three_more_are_six(tmp_path, rng):
    path = tmp_path / "checkpoint.safetensors"
    model, optimizer = resumable()
    whole = fastnn.Trainer(model, "cross_entropy", optimizer, l2=0.01, clip_norm=0.5)
    whole.fit(X, LABELS, epochs=6, batch_size=16)

    model, optimizer = resumable()
    first = fastnn.Trainer(model, "cross_entropy", optimizer, l2=0.01, clip_norm=0.5)
    first.fit(X, LABELS, epochs=3, batch_size=16)
    first.save(path)
    model, optimizer = resumable(rng=5)
    second = fastnn.Trainer.restore(path, model, "cross_entropy", optimizer)
    assert second.model is model
    assert second.optimizer is optimizer
    second.fit(X, LABELS, epochs=3, batch_size=16)
    assert_same(state(second), state(whole))
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


GO_ON = """
import sys
import numpy as np, fastnn
from tests.test_training_resume import LABELS, X, resumable
model, optimizer = resumable(rng=9)
trainer = fastnn.Trainer.restore(sys.argv[1], model, "cross_entropy", optimizer)
trainer.fit(X, LABELS, epochs=3, batch_size=16)
trainer.save(sys.argv[1])
"""


def test_another_process_goes_on(tmp_path):
    """The file after three epochs here and three there is that of six here."""
    whole, part = tmp_path / "whole", tmp_path / "part"
    for path, epochs in ((whole, 6), (part, 3)):
        model, optimizer = resumable()
        trainer = fastnn.Trainer(model, "cross_entropy", optimizer)
        trainer.fit(X, LABELS, epochs=epochs, batch_size=16)
        trainer.save(path)
    root = Path(__file__).parents[1]
    subprocess.run([sys.executable, "-c", GO_ON, part], check=True, cwd=root, timeout=120)
    assert part.read_bytes() == whole.read_bytes()


def test_checkpoints_during_a_training_resume_it(tmp_path):
    def trainer(rng):
        model, optimizer = resumable(rng)
        return fastnn.Trainer(model, "cross_entropy", optimizer)

    one = trainer(0)
    one.fit(X, LABELS, epochs=4, callbacks=[fastnn.ModelCheckpoint(tmp_path / "{epoch}")])
    model, optimizer = resumable(1)
    other = fastnn.Trainer.restore(tmp_path / "1", model, "cross_entropy", optimizer)
    other.fit(X, LABELS, epochs=2)
    assert_same(state(one), state(other))


def test_a_failed_restore_changes_nothing(tmp_path):
    model, optimizer = resumable()
    saved = fastnn.Trainer(model, "cross_entropy", optimizer)
    saved.fit(X, LABELS, epochs=1)
    path, bad = tmp_path / "good", tmp_path / "bad"
    saved.save(path)
    content = path.read_bytes()
    tensors = fastnn.load_safetensors(path)
    _, metadata = fastnn.safetensors.read_safetensors(path)

    model, optimizer = resumable(3)
    trainer = fastnn.Trainer(model, "cross_entropy", optimizer)
    trainer.step(X, LABELS)
    before, stream = state(trainer), model._stream.bit_generator.state

    def refused(error=ValueError, model=model, optimizer=optimizer):
        with pytest.raises(error):
            fastnn.Trainer.restore(bad, model, "cross_entropy", optimizer)
        assert_same(before, state(trainer))
        assert model._stream.bit_generator.state == stream or model is not trainer.model

    refused(FileNotFoundError)
    for length in (0, 7, 8, 100, len(content) - 1):
        bad.write_bytes(content[:length])
        refused()
    bad.write_bytes(content + b"\0")
    refused()
    fastnn.save_safetensors(bad, tensors)  # no metadata
    refused()
    fastnn.save_safetensors(bad, {**tensors, "more": np.ones(1)}, metadata)
    refused()
    fastnn.save_safetensors(bad, {k: v for k, v in tensors.items() if k != "random.3"}, metadata)
    refused()
    fastnn.save_safetensors(bad, {**tensors, "model.0.weight": np.ones((2, 2))}, metadata)
    refused()
    text = metadata["fastnn.trainer"]
    for old, new in (('"AdamW"', '"SGD"'), ('"t": 3', '"t": -3'), ('"PCG64"', '"none"'),
                     ('"lr": 0.005', '"lr": -1'), ('"optimizer": {', '"optimizer": 3, "o": {'),
                     ('"groups": [', '"groups": 3, "g": [')):  # fmt: skip
        assert old in text
        fastnn.save_safetensors(bad, tensors, {"fastnn.trainer": text.replace(old, new)})
        refused()
    path.replace(bad)
    with pytest.raises(ValueError, match="saved by AdamW, given SGD"):
        fastnn.Trainer.restore(bad, model, "mse", optim.SGD(model.parameters(), lr=0.1))
    refused(optimizer=optim.SGD(model.parameters(), lr=0.1))
    refused(TypeError, optimizer=None)
    fastnn.Trainer.restore(bad, model, "cross_entropy", optimizer)
    assert_same(state(trainer), state(saved))
