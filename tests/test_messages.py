"""Errors of a trainer and of layers in Python, with the way out that their user needs."""

import numpy as np
import pytest

import fastnn
from fastnn import callbacks, losses, optim

from .trainer_cases import LABELS, X, Y, make, mlp, state


class NoInit(fastnn.Layer):
    def __init__(self):
        self.own = 1


class NoBackward(fastnn.Layer):
    def forward(self, x, training=False):
        return x


def sequences():
    model = fastnn.Sequential(fastnn.LSTM(2, 4), fastnn.Linear(4, 3), rng=0)
    trainer = fastnn.Trainer(model, "cross_entropy", None)
    return trainer, X.reshape(70, 3, 2), LABELS


def one_output():
    model = fastnn.Sequential(fastnn.Linear(6, 1), rng=0)
    return fastnn.Trainer(model, "cross_entropy", None), X, LABELS % 2


def without_gradient(pred, y):
    return float(((pred - y) ** 2).mean())


DATA = {  # trainer, x, y: the end of the message
    "text": (lambda: (make(), X, np.array(list("ab") * 35)), r"labels: .*np\.unique\(labels"),
    "from one": (lambda: (make(), X, LABELS + 1), "labels: .*; classes count from 0"),
    "no class": (lambda: (make(), X, np.full(70, 2**64 - 1, np.uint64)), "labels: .*1844"),
    "fractions": (lambda: (make(), X, LABELS + 0.0), r"labels: .*; labels\.astype\(int\)"),
    "one-hot": (lambda: (make(), X, np.eye(3, dtype=int)[LABELS]), r"labels: .*argmax\(-1\)"),
    "no axis of features": (lambda: (make(), X[:, 0], LABELS), r"x: .*; x\[:, None\]"),
    "no axis of outputs": (
        lambda: (fastnn.Trainer(fastnn.Linear(6, 1), "mse", None), X, Y[:, 0]),
        r"target: .*; target\[:, None\]",
    ),
    "a column of labels": (lambda: (make(), X, LABELS[:, None]), r"labels: .*; labels\.ravel\(\)"),
    "one label per sequence": (sequences, "labels: .*return_sequences=False"),
    "one output": (one_output, "labels: .*; binary_cross_entropy_with_logits"),
    "two lengths": (lambda: (make(), X, LABELS[:9]), "x and y: expected as many samples"),
    "a number as loss": (
        lambda: (make(without_gradient), X, Y), r"loss: expected \(loss, gradient\), got float"
    ),
    "nothing as loss": (lambda: (make(lambda pred, y: None), X, Y), r"loss: expected \(loss, gr"),
    "no number as loss": (
        lambda: (make(lambda pred, y: (pred, pred)), X, Y), "loss: expected a number and a grad"
    ),
    "another gradient": (
        lambda: (make(lambda pred, y: (0.0, pred[:9])), X, Y), "gradient: expected shape"
    ),
}  # fmt: skip


@pytest.mark.parametrize("how", ["fit", "step", "evaluate"])
@pytest.mark.parametrize("what", DATA)
def test_data_that_do_not_fit(what, how):
    trainer, x, y = DATA[what][0]()
    if trainer.optimizer is None:
        trainer.optimizer = optim.Adam(trainer.model.parameters())
    before = state(trainer)
    options = {"epochs": 1} if how == "fit" else {}
    with pytest.raises((TypeError, ValueError), match=f"^{DATA[what][1]}") as error:
        getattr(trainer, how)(x, y, **options)
    assert "Stepper" not in str(error.value)
    for name, values in state(trainer).items():
        np.testing.assert_array_equal(values, before[name])


def another_models_optimizer():
    return fastnn.Trainer(mlp(), "mse", optim.Adam(mlp().parameters()))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (another_models_optimizer, ValueError, "optimizer: .*another model's .*make it again"),
        (lambda: make("cross_entropi"), ValueError, "loss: .*did you mean 'cross_entropy'"),
        (lambda: make().fit(X, LABELS, epochs=1, metrics=["acc"]), ValueError, "metrics: .*'accu"),
        (lambda: optim.Adam(mlp()), TypeError, r"params: .*; its parameters\(\) are one"),
        (
            lambda: make().fit(X, LABELS, epochs=1, callbacks=[callbacks.TerminateOnNaN]),
            TypeError, r"callbacks: .*; TerminateOnNaN\(\) makes one",
        ),
        (lambda: fastnn.Sequential(NoInit()), TypeError, r"layers\[0\]: .*super\(\).__init__"),
        (lambda: NoInit()(X), AttributeError, r"NoInit: expected .*super\(\).__init__"),
        (lambda: NoInit().parameters(), AttributeError, r"NoInit: expected .*super\(\).__init__"),
        (lambda: NoInit().absent, AttributeError, "'NoInit' object has no attribute 'absent'"),
        (lambda: NoBackward().backward(Y), RuntimeError, "backward: NoBackward has .*; define"),
        (
            lambda: fastnn.Trainer(
                fastnn.Sequential(fastnn.Linear(3, 3), NoBackward()), "mse", None
            ).step(Y, Y),
            RuntimeError, "backward: NoBackward has .*; define",
        ),
    ],
)  # fmt: skip
def test_what_is_missing_or_of_another(call, error, message):
    with pytest.raises(error, match=f"^{message}"):
        call()


@pytest.mark.parametrize("how", ["step", "fit", "evaluate"])
def test_a_loss_may_predict_but_not_train(how):
    other = []

    def loss(pred, y):
        predicted = trainer.model(X)
        np.testing.assert_array_equal(trainer.predict(X), predicted)
        if other:
            other[0]()
        return losses.mse(pred, y)

    trainer = make(loss)
    inside = fastnn.Trainer(trainer.model, "mse", trainer.optimizer)
    options = {"epochs": 1} if how == "fit" else {}
    getattr(trainer, how)(X, Y, **options)
    before = state(trainer)
    for call in (
        lambda: trainer.model.forward(X, training=True),
        lambda: trainer.model.backward(Y),
        lambda: fastnn.Trainer(trainer.model, "mse", None).step(X, Y),
    ):
        other[:] = [call]
        with pytest.raises(RuntimeError, match="inside its own loss"):
            getattr(trainer, how)(X, Y, **options)
        for name, values in state(trainer).items():
            np.testing.assert_array_equal(values, before[name])
    other[:] = []
    assert inside.step(X, Y) > 0


@pytest.mark.parametrize("l2_on", ["weights", "all"])
def test_a_loss_in_python_trains_what_the_optimizer_holds(l2_on):
    """The gradients, penalty included, are those of the same loss in C; the others get none."""
    found = []
    for loss in ("mse", lambda pred, y: losses.mse(pred, y)):
        trainer = make(loss, l2=0.1, l2_on=l2_on)
        trainer.optimizer = optim.SGD(trainer.model[2].parameters(), lr=0.1)
        value = [trainer.step(X, Y) for _ in range(3)]
        trainer.l2 = 0.2
        value.append(trainer.step(X, Y))
        assert not any(p.grad_ready for p in trainer.model[0].parameters())
        trainer.model[2].bias.trainable = False
        value.append(trainer.step(X, Y))
        found.append((value, state(trainer)))
    (one, before), (other, after) = found
    assert one == pytest.approx(other, rel=1e-6)
    for name in before:
        np.testing.assert_allclose(before[name], after[name], rtol=1e-5, atol=1e-7)
