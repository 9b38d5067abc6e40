"""Training steps of a multilayer perceptron: fastnn and the libraries it is measured against.

One class per library, all with the same four methods, all starting from the same weights.
`available()` lists the libraries that are installed, and `check_agreement` sees that they compute
the same losses.
"""

from collections.abc import Iterator
from functools import partial
from importlib.util import find_spec
from itertools import repeat
from typing import Any

import numpy as np

from bench.environment import THREADS
from bench.libraries import compiles
from bench.networks import LEARNING_RATE, Network

BETA1, BETA2, EPS = 0.9, 0.999, 1e-8


class Peer:
    """A network in one library, ready to take training steps.

    A subclass sets `name` and `needs` (the module to import) and defines `__init__(network,
    weights, lr)` and `step`. Losses may stay in the library's own form until `wait`, so that a
    library which works asynchronously is not held up.
    """

    name: str
    needs: str

    def __init__(self, network: Network, weights: list, lr: float = LEARNING_RATE) -> None:
        raise NotImplementedError

    def convert(self, x: np.ndarray, y: np.ndarray) -> tuple[Any, Any]:
        """Return the arrays in the library's own form; never part of a measured time."""
        return x, y

    def step(self, x: Any, y: Any) -> Any:
        """Take one training step on a minibatch and return its loss."""
        raise NotImplementedError

    def wait(self, loss: Any) -> float:
        """Return the loss as a number, once everything before it is finished."""
        return float(loss)

    def run(self, x: Any, y: Any, steps: int) -> float:
        """Take `steps` steps on one minibatch."""
        step = self.step
        for _ in repeat(None, steps):
            loss = step(x, y)
        return self.wait(loss)

    def fit(self, x: Any, y: Any, batch: int, epochs: int) -> None:
        """Train for whole epochs over shuffled minibatches."""
        rng = np.random.default_rng(0)
        for _ in range(epochs):
            for rows in minibatches(rng.permutation(len(x)), batch):
                loss = self.step(x[rows], y[rows])
        self.wait(loss)


def minibatches(order: Any, batch: int) -> Iterator[Any]:
    """Cut the shuffled row numbers `order` into minibatches; the last may be smaller."""
    return (order[start : start + batch] for start in range(0, len(order), batch))


class FastNN(Peer):
    """`fastnn.Trainer`."""

    name, needs = "fastnn", "fastnn"

    def __init__(self, network, weights, lr=LEARNING_RATE, **options):
        import fastnn

        activation = {"relu": fastnn.ReLU, "tanh": fastnn.Tanh}[network.activation]
        layers = []
        for outs, ins in network.shapes:
            layers += [fastnn.Linear(ins, outs), activation()]
        self.model = fastnn.Sequential(*layers[:-1], dtype=network.dtype)
        state = {}
        for i, (weight, bias) in enumerate(weights):
            state |= {f"{2 * i}.weight": weight, f"{2 * i}.bias": bias}
        self.model.load_state_dict(state)
        optimizer = fastnn.optim.Adam(self.model.parameters(), lr=lr) if network.update else None
        self.trainer = fastnn.Trainer(self.model, network.loss, optimizer, **options)
        self.step = self.trainer.step

    def fit(self, x, y, batch, epochs):
        self.trainer.fit(x, y, epochs=epochs, batch_size=batch, progress=False, rng=0)

    def kernels(self, x, y, n):
        """Take n steps in one call, as `fit` does: kernels, and copies of the minibatch."""
        rows = np.tile(np.arange(len(x)), n)
        self.trainer._steps(self.trainer._data(x, y), rows, len(x), n)


class NumPy(Peer):
    """NumPy as a careful user writes it: nothing allocated twice, Adam over one flat array."""

    name, needs = "numpy", "numpy"

    def __init__(self, network, weights, lr=LEARNING_RATE):
        self.network, self.lr, self.t = network, lr, 0
        arrays = [array for pair in weights for array in pair]
        self.flat = np.concatenate([array.ravel() for array in arrays])
        self.grad = np.empty_like(self.flat)
        self.moment, self.square = np.zeros_like(self.flat), np.zeros_like(self.flat)
        self.work = np.empty_like(self.flat)
        self.weights = list(self._pairs(self.flat))
        self.grads = list(self._pairs(self.grad))

    def _pairs(self, flat):
        start = 0
        for outs, ins in self.network.shapes:
            middle, stop = start + outs * ins, start + outs * ins + outs
            yield flat[start:middle].reshape(outs, ins), flat[middle:stop]
            start = stop

    def step(self, x, y):
        inputs = [x]
        for i, (weight, bias) in enumerate(self.weights):
            x = inputs[-1] @ weight.T
            x += bias
            if i + 1 < len(self.weights):
                np.maximum(x, 0, out=x) if self.network.activation == "relu" else np.tanh(x, out=x)
                inputs.append(x)
        loss, dy = self._cross_entropy(x, y) if self.network.loss != "mse" else self._mse(x, y)
        for i in reversed(range(len(inputs))):
            dweight, dbias = self.grads[i]
            np.matmul(dy.T, inputs[i], out=dweight)
            np.add.reduce(dy, axis=0, out=dbias)
            if i:
                y = inputs[i]
                dy = dy @ self.weights[i][0]
                dy *= (y > 0) if self.network.activation == "relu" else 1 - y * y
        if self.network.update:
            self._adam()
        return loss

    @staticmethod
    def _mse(x, y):
        x -= y
        loss = np.vdot(x, x) / x.size
        x *= 2 / x.size
        return loss, x

    @staticmethod
    def _cross_entropy(x, y):
        rows = np.arange(len(x))
        x -= x.max(axis=1, keepdims=True)
        chosen = x[rows, y]
        np.exp(x, out=x)
        total = x.sum(axis=1, keepdims=True)
        loss = (np.log(total[:, 0]) - chosen).mean()
        x /= total
        x[rows, y] -= 1
        x /= len(x)
        return loss, x

    def _adam(self):
        self.t += 1
        work, grad = self.work, self.grad
        self.moment *= BETA1
        self.moment += np.multiply(grad, 1 - BETA1, out=work)
        np.multiply(grad, grad, out=work)
        work *= 1 - BETA2
        self.square *= BETA2
        self.square += work
        np.sqrt(self.square, out=work)
        work *= 1 / np.sqrt(1 - BETA2**self.t)
        work += EPS
        np.divide(self.moment, work, out=work)
        work *= self.lr / (1 - BETA1**self.t)
        self.flat -= work


class Reference(Peer):
    """The NumPy twins of the kernels, one after the other: `fastnn.reference`."""

    name, needs = "reference", "fastnn"

    def __init__(self, network, weights, lr=LEARNING_RATE):
        from fastnn import reference

        self.reference, self.adam_step = reference, reference.optim.adam_step
        self.activate = getattr(reference, f"{network.activation}_forward")
        self.activate_backward = getattr(reference, f"{network.activation}_backward")
        self.loss = getattr(reference, f"{network.loss}_loss")
        self.mean_over = network.sizes[-1] if network.loss == "mse" else 1
        self.update, self.lr, self.t = network.update, lr, 0
        self.layers = [(weight.copy(), bias.copy()) for weight, bias in weights]
        self.moments = [
            [(np.zeros_like(array), np.zeros_like(array)) for array in layer]
            for layer in self.layers
        ]

    def step(self, x, y):
        reference = self.reference
        inputs = [x]
        for weight, bias in self.layers[:-1]:
            x = reference.linear_forward(x, weight, bias)
            x = self.activate(x)
            inputs.append(x)
        x = reference.linear_forward(x, *self.layers[-1])
        scale = 1 / (len(x) * self.mean_over)
        row_loss, dy = self.loss(x, y, scale=scale)
        grads = []
        for i in reversed(range(len(inputs))):
            grads.append(reference.linear_backward_weight(dy, inputs[i]))
            if i:
                dx = reference.linear_backward_input(dy, self.layers[i][0])
                dy = self.activate_backward(dx, inputs[i])
        if self.update:
            self.t += 1
            for layer in zip(self.layers, reversed(grads), self.moments, strict=True):
                for array, grad, moments in zip(*layer, strict=True):
                    self.adam_step(array, grad, *moments, step=self.t, lr=self.lr)
        return row_loss.sum() * scale


class PyTorch(Peer):
    """Eager PyTorch with its fused Adam."""

    name, needs = "torch", "torch"

    def __init__(self, network, weights, lr=LEARNING_RATE):
        import torch

        torch.set_num_threads(THREADS)
        self.torch = torch
        activation = {"relu": torch.nn.ReLU, "tanh": torch.nn.Tanh}[network.activation]
        layers = []
        for weight, bias in weights:
            linear = torch.nn.Linear(*weight.shape[::-1], dtype=getattr(torch, network.dtype))
            linear.load_state_dict(
                {"weight": torch.from_numpy(weight), "bias": torch.from_numpy(bias)}
            )
            layers += [linear, activation()]
        self.model = torch.nn.Sequential(*layers[:-1])
        self.loss = {
            "mse": torch.nn.functional.mse_loss,
            "cross_entropy": torch.nn.functional.cross_entropy,
        }[network.loss]
        self.optimizer = self._adam(torch, lr)
        self.update = network.update

    def _adam(self, torch, lr):
        adam = partial(torch.optim.Adam, self.model.parameters(), lr=lr)
        try:
            return adam(fused=True)
        except RuntimeError:  # releases without a fused step for the CPU
            return adam(foreach=True)

    def convert(self, x, y):
        return self.torch.from_numpy(x), self.torch.from_numpy(y)

    def step(self, x, y):
        self.optimizer.zero_grad()
        loss = self.loss(self.model(x), y)
        loss.backward()
        if self.update:
            self.optimizer.step()
        return loss

    def wait(self, loss):
        return loss.item()

    def fit(self, x, y, batch, epochs):
        for _ in range(epochs):
            for rows in minibatches(self.torch.randperm(len(x)), batch):
                loss = self.step(x[rows], y[rows])
        self.wait(loss)


class Compiled(PyTorch):
    """`torch.compile` of forward, loss and their gradients, with the same fused Adam."""

    name = "torch.compile"

    def __init__(self, network, weights, lr=LEARNING_RATE):
        super().__init__(network, weights, lr)
        module, loss = self.model, self.loss
        self.torch.compiler.reset()  # or guards of the networks before are asked at each call
        self.compiled = self.torch.compile(
            lambda x, y: loss(module(x), y), fullgraph=True, dynamic=False
        )

    def step(self, x, y):
        self.optimizer.zero_grad()
        loss = self.compiled(x, y)
        loss.backward()
        if self.update:
            self.optimizer.step()
        return loss


class Autocast(PyTorch):
    """PyTorch with bfloat16 by autocast, for the section of that name alone."""

    name = "autocast"

    def step(self, x, y):
        self.optimizer.zero_grad()
        with self.torch.autocast("cpu", self.torch.bfloat16):
            loss = self.loss(self.model(x), y)
        loss.backward()
        self.optimizer.step()
        return loss


class JAX(Peer):
    """A jitted step with donated buffers; `fit` puts the whole epoch under one jit."""

    name, needs = "jax", "jax"

    def __init__(self, network, weights, lr=LEARNING_RATE):
        import jax
        import jax.numpy as jnp

        jax.config.update("jax_enable_x64", True)  # or the float64 network silently is float32
        # Handing a step to another thread costs more than it brings when there is one core.
        jax.config.update("jax_cpu_enable_async_dispatch", THREADS > 1)
        self.jax, self.network, self.lr = jax, network, lr
        # Stored (in, out), as JAX libraries do.
        parameters = [(jnp.array(weight.T), jnp.array(bias)) for weight, bias in weights]
        zeros = partial(jax.tree.map, jnp.zeros_like)
        self.state = (parameters, zeros(parameters), zeros(parameters), jnp.zeros((), "int32"))
        self.jitted_step = jax.jit(self._step, donate_argnums=0)
        self.jitted_epoch = jax.jit(self._epoch, donate_argnums=0)

    def _loss(self, parameters, x, y):
        jax, jnp = self.jax, self.jax.numpy
        activation = {"relu": jax.nn.relu, "tanh": jnp.tanh}[self.network.activation]
        for weight, bias in parameters[:-1]:
            x = activation(x @ weight + bias)
        weight, bias = parameters[-1]
        x = x @ weight + bias
        if self.network.loss == "mse":
            return jnp.mean((x - y) ** 2)
        # One-hot products run faster than gathering the chosen column.
        chosen = jax.nn.one_hot(y, x.shape[1], dtype=x.dtype)
        return -jnp.mean(jnp.sum(jax.nn.log_softmax(x) * chosen, axis=1))

    def _step(self, state, x, y):
        jax, jnp = self.jax, self.jax.numpy
        parameters, moment, square, t = state
        loss, grads = jax.value_and_grad(self._loss)(parameters, x, y)
        if not self.network.update:  # the gradients are the result
            return (parameters, grads, square, t), loss
        t = t + 1
        power = t.astype(x.dtype)
        moment = jax.tree.map(lambda m, g: BETA1 * m + (1 - BETA1) * g, moment, grads)
        square = jax.tree.map(lambda v, g: BETA2 * v + (1 - BETA2) * g * g, square, grads)
        rate = self.lr / (1 - BETA1**power)
        correction = 1 / jnp.sqrt(1 - BETA2**power)
        parameters = jax.tree.map(
            lambda p, m, v: p - rate * m / (jnp.sqrt(v) * correction + EPS),
            parameters,
            moment,
            square,
        )
        return (parameters, moment, square, t), loss

    def _epoch(self, state, x, y, order):
        def step(state, rows):
            return self._step(state, x[rows], y[rows])

        state, losses = self.jax.lax.scan(step, state, order)
        return state, losses[-1]

    def convert(self, x, y):
        put = self.jax.device_put
        return put(x), put(y.astype("int32") if y.dtype == np.int64 else y)

    def step(self, x, y):
        self.state, loss = self.jitted_step(self.state, x, y)
        return loss

    def fit(self, x, y, batch, epochs):
        rng = np.random.default_rng(0)
        rows = len(x) // batch * batch  # a scan's minibatches are equal: the rest is left out
        for _ in range(epochs):
            order = rng.permutation(len(x))[:rows].astype("int32").reshape(-1, batch)
            self.state, loss = self.jitted_epoch(self.state, x, y, order)
        self.wait(loss)


class ScikitLearn(Peer):
    """`MLPClassifier`: cross-entropy over at least three classes, with Adam."""

    name, needs = "sklearn", "sklearn"

    def __init__(self, network, weights, lr=LEARNING_RATE):
        from sklearn.neural_network import MLPClassifier

        self.network, self.weights = network, weights
        self.classes = np.arange(network.sizes[-1])
        self.model = MLPClassifier(
            network.sizes[1:-1],
            activation=network.activation,
            alpha=0,
            batch_size=network.batch,
            learning_rate_init=lr,
            # Added before the bias correction, so this is EPS as the others have it at step 3.
            epsilon=EPS * np.sqrt(1 - BETA2**3),
            tol=0,
            n_iter_no_change=10**9,
            random_state=0,
        )

    def step(self, x, y):
        if not hasattr(self.model, "coefs_"):  # made by the first call; begin again from ours
            self.model.partial_fit(x, y, classes=self.classes)
            for coef, intercept, (weight, bias) in zip(
                self.model.coefs_, self.model.intercepts_, self.weights, strict=True
            ):
                coef[:], intercept[:] = weight.T, bias
            adam = self.model._optimizer
            adam.t = 0
            for moment in adam.ms + adam.vs:
                moment[:] = 0
        self.model.partial_fit(x, y)
        return self.model.loss_

    def fit(self, x, y, batch, epochs):
        import warnings

        self.model.set_params(batch_size=batch, max_iter=epochs)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a fixed number of epochs need not converge
            self.model.fit(x, y)


PEERS: tuple[type[Peer], ...] = (FastNN, NumPy, PyTorch, Compiled, JAX)


def available(*others: type[Peer]) -> list[type[Peer]]:
    """Return the peers that are installed, and those of the `others`."""
    found = [peer for peer in (*PEERS, *others) if find_spec(peer.needs)]
    return [peer for peer in found if peer is not Compiled or compiles()]


def check_agreement(network: Network, steps: int = 5, rtol: float = 1e-4) -> dict[str, list[float]]:
    """Train every peer from the same weights on the same minibatch; return their losses.

    Raises
    ------
    AssertionError
        If the losses of two peers differ by more than `rtol` at any step, or by more than 1e-5 of
        the first.
    """
    x, y = network.data()
    losses = {}
    classifier = network.loss == "cross_entropy" and network.sizes[-1] > 2
    for make in available(Reference, *([ScikitLearn] if classifier else [])):
        peer = make(network, network.initial_weights(), lr=1e-3)
        data = peer.convert(x, y)
        losses[peer.name] = [peer.wait(peer.step(*data)) for _ in range(steps)]
    first, *others = losses
    for other in others:
        np.testing.assert_allclose(
            losses[other], losses[first], rtol, 1e-5 * losses[first][0],
            err_msg=f"{network}: {other} and {first} differ",
        )  # fmt: skip
    return losses
