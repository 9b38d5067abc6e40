"""Proves that not a bit of any result changes while the internals move.

    python tests/fingerprint.py > before.txt    # with the old build
    python tests/fingerprint.py before.txt      # with the new one: exit status 1 if a bit differs

Trains models that together use every layer, loss and optimizer, on every instruction set of the
build that runs here, in both dtypes, on one and on two threads, and hashes all that fastnn
computed: weights, buffers, gradients, optimizer states, losses, outputs. A line of the output is
``instruction-set dtype threads case hash``, the last one the hash of all. One and two threads must
agree, or the exit status is 1 too. Take both outputs on one machine with one NumPy. Standard error
says which fastnn it was: an editable install comes before PYTHONPATH. Not a test for pytest.
"""

import contextlib
import io
import os
import re
import subprocess
import sys
from functools import partial
from hashlib import sha256
from pathlib import Path

import numpy as np

import fastnn as nn
from fastnn import losses, ops, optim, schedules

OPTIMIZERS = {  # class: hyper-parameters of each variant
    optim.SGD: [{"maximize": True}, {"momentum": 0.9, "dampening": 0.1},
                {"momentum": 0.8, "nesterov": True, "weight_decay": 0.01}],
    optim.NAG: [{"weight_decay": 0.01}, {"momentum": schedules.linear(0.5, 0.9, 4)}],
    optim.Adagrad: [{"lr_decay": 0.1, "initial_accumulator_value": 0.1},
                    {"eps": 1e-7, "eps_inside_sqrt": True, "weight_decay": 0.01}],
    optim.RMSprop: [{"weight_decay": 0.01}, {"centered": True}, {"momentum": 0.9},
                    {"centered": True, "momentum": 0.5, "eps_inside_sqrt": True}],
    optim.Adam: [{}, {"amsgrad": True, "weight_decay": 0.01},
                 {"bias_correction": False, "eps_inside_sqrt": True}],
    optim.AdamW: [{}, {"amsgrad": True, "weight_decay": 0.1}],
    optim.LAMB: [{"weight_decay": 0.1}, {"bias_correction": False}],
    optim.Lion: [{}, {"betas": (0.8, 0.95), "weight_decay": 0.1}],
}


class Cubic(nn.Layer):
    """x³, a layer in plain Python."""

    def forward(self, x, training=False):
        self.x = x.copy()
        return x * x * x

    def backward(self, dy, accumulate=False):
        return 3 * self.x * self.x * dy


def normal(seed, dtype, *shape):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def integers(seed, high, *shape):
    return np.random.default_rng(seed).integers(0, high, shape)


def trained(model, optimizer):
    """All that a training leaves behind."""
    state, gradients = optimizer.state_dict(), {p.name: p.grad for p in model.parameters()}
    values, seen = {}, set()
    for name, array in model.state_dict().items():  # a layer in two places counts once
        if array.tobytes() not in seen:
            seen.add(array.tobytes())
            values[name] = array
    return values, gradients, state["t"], state["state"]


# Cases yield values to hash.

def activations(dtype):
    """All of them, large enough for threads, in shuffled fits with weights and validation."""
    layers = [nn.Linear(20, 97)]
    for function in (nn.ReLU(), nn.LeakyReLU(0.1), nn.Sigmoid(), nn.Tanh(), nn.GELU(),
                     nn.GELU(approximate="tanh"), nn.SiLU(), nn.Dropout(0.1)):
        layers += [function, nn.Linear(97, 97, init="he_normal")]
    model = nn.Sequential(*layers, dtype=dtype, rng=1)
    optimizer = optim.AdamW(model.parameters(), schedules.cosine_decay(0.01, 9), clip_norm=0.5)
    loss = partial(losses.cross_entropy, label_smoothing=0.1)
    trainer = nn.Trainer(model, loss, optimizer, l2=1e-3, l2_on="all", clip_norm=2.0)
    x, y, weight = normal(2, dtype, 300, 20), integers(3, 97, 300), np.linspace(0, 1, 300)
    yield trainer.fit(x, y, epochs=3, batch_size=128, sample_weight=weight, metrics=["accuracy"],
                      validation_data=(x, y), rng=4, progress=False).history
    yield trainer.fit(x, y, epochs=1, progress=False).history, trained(model, optimizer)
    yield trainer.predict(x), trainer.predict(x[:1]), trainer.evaluate(x, y, sample_weight=weight)


def exponentials(dtype):
    """The activations that are made of exponential functions, and the losses with variances."""
    for loss, width in ((losses.gaussian_nll(), 2), (losses.quantile(quantiles=(0.1, 0.9)), 2),
                        (losses.poisson_nll(), 1)):
        layers = [nn.Linear(20, 61)]
        for function in (nn.ELU(0.7), nn.SELU(), nn.Mish(), nn.Softplus(2.0)):
            layers += [function, nn.Linear(61, 61)]
        model = nn.Sequential(*layers, nn.Linear(61, 3 * width), dtype=dtype, rng=21)
        optimizer = optim.Lion(model.parameters(), lr=0.001)
        x, y = normal(22, dtype, 300, 20), normal(23, dtype, 300, 3) ** 2
        yield nn.Trainer(model, loss, optimizer).fit(x, y, epochs=2, progress=False, rng=4).history
        yield trained(model, optimizer), model(x)


def branches(dtype):
    """Containers, a layer used twice, and a layer and a loss in Python among those in C."""
    x, y = normal(7, dtype, 230, 4, 6), normal(8, dtype, 230, 5)
    for middle, loss in ((nn.SiLU, partial(losses.huber, delta=0.3)), (Cubic, "mse"),
                         (nn.Tanh, lambda pred, target: losses.mse(pred, target))):
        twice, plain = nn.Linear(24, 24), nn.LayerNorm(24, elementwise_affine=False)
        model = nn.Sequential(
            nn.LayerNorm((4, 6)), nn.Flatten(), twice, nn.Tanh(), twice, middle(),
            nn.Residual(plain, nn.Linear(24, 90), nn.ReLU(), nn.Linear(90, 24, bias=False)),
            nn.Concat(nn.Sequential(nn.Linear(24, 19), nn.Softmax()),
                      nn.Sequential(nn.Linear(24, 33), nn.LogSoftmax()), nn.Tanh()),
            nn.LayerNorm(76), nn.Linear(76, 5), dtype=dtype, rng=9)
        optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True)
        trainer = nn.Trainer(model, loss, optimizer)
        yield [trainer.step(x[:n], y[:n]) for n in (230, 230, 1)], trained(model, optimizer)
        yield model(x), nn.Trainer(model, loss, None).step(x, y), trained(model, optimizer)


def by_hand(dtype):
    """Both kinds of BatchNorm1d; forward, loss, backward and step, gradients accumulated."""
    model = nn.Sequential(nn.BatchNorm1d(6, momentum=0.3), nn.Flatten(),
                          nn.Linear(54, 120, bias=False), nn.BatchNorm1d(120, affine=False),
                          nn.ReLU(), nn.Dropout(0.2), nn.Linear(120, 5), dtype=dtype, rng=11)
    optimizer = optim.RMSprop(model.parameters(), centered=True, momentum=0.9, clip_norm=1.0)
    x, y = normal(12, dtype, 380, 6, 9), normal(13, dtype, 380, 5)
    for _ in range(3):
        for rows, accumulate in ((slice(320), False), (slice(320, 380), True)):
            out = model.forward(x[rows], training=True)
            loss, gradient = losses.mse(out, y[rows], reduction="sum")
            yield out, loss, model.backward(gradient, accumulate=accumulate)
        yield losses.l2_penalty(model.parameters(), 0.01)
        optimizer.step()
    yield trained(model, optimizer), model(x)


def lstm(dtype):
    """Layers, directions and outputs of LSTMs in a model, and alone with lengths and states."""
    tokens, labels = integers(14, 50, 40, 13), integers(15, 9, 40, 13)
    x, lengths = normal(16, dtype, 45, 14, 11), integers(17, 15, 45)
    masked = partial(losses.cross_entropy, class_weight=np.linspace(0.5, 2, 9), ignore_index=4)
    for layers, both, sequences in np.ndindex(2, 2, 2):
        loss = masked if sequences else losses.binary_cross_entropy_with_logits
        target = labels if sequences else (labels[:, :9] > 4).astype(dtype)
        shape = {"num_layers": layers + 1, "bidirectional": bool(both), "dropout": 0.2 * layers,
                 "return_sequences": bool(sequences)}
        model = nn.Sequential(nn.Embedding(50, 21), nn.LSTM(21, 30, **shape),
                              nn.Linear(30 + 30 * both, 9), dtype=dtype, rng=18)
        optimizer = optim.LAMB(model.parameters(), lr=0.02, clip_norm=1.0)
        trainer = nn.Trainer(model, loss, optimizer)
        yield [trainer.step(tokens[:n], target[:n], np.linspace(0, 1, n)) for n in (40, 40, 7)]
        yield trained(model, optimizer), trainer.predict(tokens)

        layer = nn.LSTM(11, 37, **shape, dtype=dtype, rng=19)
        optimizer = optim.SGD(layer.parameters(), lr=0.1)
        h0, c0, dh, dc = normal(20, dtype, 4, (layers + 1) * (both + 1), 45, 37)
        for accumulate in (False, True):
            y = layer.forward(x, h0, c0, lengths, training=True)
            yield y, layer.final_state, layer.backward(y / 9, dh, dc, accumulate=accumulate)
            optimizer.step()
            yield layer.initial_state_grad, trained(layer, optimizer)


def stateful(dtype):
    """A trainer that carries the state from batch to batch, in `fit` and in steps."""
    x, y = integers(21, 40, 80, 12), integers(22, 40, 80, 12)
    model = nn.Sequential(nn.Embedding(40, 16), nn.LSTM(16, 33, 2), nn.Linear(33, 40),
                          dtype=dtype, rng=22)
    optimizer = optim.Adam(model.parameters(), lr=schedules.warmup(schedules.constant(0.01), 4))
    trainer = nn.Trainer(model, "cross_entropy", optimizer, stateful=True)
    yield trainer.fit(x, y, epochs=2, batch_size=16, shuffle=False, progress=False).history
    yield [trainer.step(x[:16], y[:16]) for _ in range(2)], trainer.predict(x, batch_size=16)
    trainer.reset_state()
    yield trainer.step(x[:16], y[:16]), trained(model, optimizer)


def every_loss(dtype):
    """Every loss with its options, as a function and in a trainer."""
    x, pred, weight = normal(23, dtype, 60, 7, 31), normal(24, dtype, 60, 7, 11), np.arange(60)
    labels, probabilities, factors = integers(25, 11, 60, 7), ops.softmax(pred), np.arange(1, 12)
    cross, bce = losses.cross_entropy, losses.binary_cross_entropy_with_logits
    for loss, target, options in (
        (losses.mse, pred, {}), (losses.l1, pred, {}), (losses.huber, pred, {"delta": 0.7}),
        (bce, probabilities, {}), (cross, labels, {}), (cross, probabilities, {}),
        (cross, labels, {"class_weight": factors}), (cross, labels, {"ignore_index": 4}),
        (cross, probabilities, {"class_weight": factors, "label_smoothing": 0.2}),
        (cross, labels, {"class_weight": factors, "label_smoothing": 0.1, "ignore_index": 2}),
    ):
        for reduction in ("mean", "sum"):
            function = partial(loss, reduction=reduction, **options)
            model = nn.Sequential(nn.Linear(31, 80), nn.Linear(80, 11), dtype=dtype, rng=26)
            optimizer = optim.SGD(model.parameters(), lr=1e-3)
            trainer = nn.Trainer(model, function, optimizer)
            for weights in (None, weight):
                yield function(3 * pred[::-1], target, sample_weight=weights)
                yield trainer.step(x, target, weights), trained(model, optimizer)


def every_optimizer(kind, dtype):
    """One class, on a model with a sparse table, in two groups, and on bare arrays."""
    x, y = integers(27, 90, 96), normal(28, dtype, 96, 9)
    for hyper in OPTIMIZERS[kind]:
        for state_dtype in (None, "bfloat16", "int8"):
            model = nn.Sequential(nn.Embedding(90, 256, sparse=True), nn.Linear(256, 51), nn.Tanh(),
                                  nn.Linear(51, 9), dtype=dtype, rng=29)
            table, *dense = model.parameters()
            optimizer = kind([{"params": [table], "lr": 0.03}, {"params": dense}], lr=0.01,
                             state_dtype=state_dtype, **hyper)
            trainer = nn.Trainer(model, "l1", optimizer)
            yield [trainer.step(x[i:], y[i:]) for i in range(3)], trained(model, optimizer)
            arrays = [normal(30, dtype, 151, 203), normal(31, dtype, 77), normal(32, dtype, 1)]
            optimizer = kind(arrays, schedules.one_cycle(0.02, 3), clip_norm=20.0,
                             state_dtype=state_dtype, **hyper)
            for scale in (1, -2):
                optimizer.step([scale * array[::-1] for array in arrays])
            yield arrays, optimizer.state_dict()["state"]


def functions(dtype):
    """The functions on arrays, small and large."""
    names = ("relu", "leaky_relu", "sigmoid", "tanh", "gelu", "silu", "softmax", "log_softmax")
    for rows, n in ((1, 10), (37, 91), (600, 260)):
        x, dy, h, c = (normal(s, dtype, rows, m) for s, m in ((50, n), (51, n), (52, 40), (53, 40)))
        w, u, s = (normal(54, dtype, 160, m) / 8 for m in (n, 40, rows))
        bias, scale, shift = u[:, 0].copy(), x[0] + 1, dy[0].copy()
        yield ops.linear_backward(s.T.copy(), x, w), ops.gelu(x, "tanh")
        yield [ops.linear(x, w, bias, name) for name in (*names, "gelu_tanh", None)]
        yield ops.matmul(x, w.T), ops.matmul(x.T, dy), ops.matmul(x[0], w.T)
        yield ops.lstm(np.stack([x, dy, x], 1), h, c, w, u, bias), ops.lstm_step(x, h, c, w, u)
        for norm in ("layer_norm", "batch_norm"):
            y, *statistics = getattr(ops, norm)(x, scale, shift)
            yield y, statistics, getattr(ops, f"{norm}_backward")(dy, x, scale, *statistics)
        yield ops.batch_norm_inference(x, shift, scale * scale, scale, shift)
        y, mask = ops.dropout(x, 0.3, rng=55)
        yield y, mask, ops.dropout_backward(dy, mask, 0.3), ops.gelu_backward(dy, x, "tanh")
        index = integers(56, rows, 400)
        y = ops.embedding(index, x)
        yield ops.embedding_backward(y, index, rows), ops.clip_grad_norm([y], 3.0), y
        for step, states, hyper in (
            (ops.sgd_step, 1, {"lr": 0.1, "momentum": 0.9}), (ops.nag_step, 1, {"lr": 0.1}),
            (ops.adagrad_step, 1, {}), (ops.rmsprop_step, 3, {"momentum": 0.9}),
            (ops.adam_step, 3, {"step": 2}), (ops.adamw_step, 2, {"step": 1}),
            (ops.lamb_step, 2, {"step": 1}),
        ):
            changed = [x.copy(), *(np.zeros_like(x) for _ in range(states))]
            step(changed[0], dy, *changed[1:], **hyper)
            yield changed
        x[0, :10] = [0, -0.0, 1e-40, 1e-3, 20, -20, 90, -90, 1e4, -1e4]
        yield ops.exp(x)
        for name in names:
            y = getattr(ops, name)(x)
            yield y, getattr(ops, f"{name}_backward")(dy, x if name in ("gelu", "silu") else y)


CASES = (activations, exponentials, branches, by_hand, lstm, stateful, every_loss, functions)
CASES = {case.__name__: case for case in CASES}
CASES |= {kind.__name__: partial(every_optimizer, kind) for kind in OPTIMIZERS}


def as_bytes(value):
    """Numbers and arrays in any nest of sequences and dicts, keys in alphabetical order."""
    if isinstance(value, np.ndarray):
        return f"{value.dtype.str}{value.shape}".encode() + value.tobytes()
    if isinstance(value, dict):
        # histories tell the learning rate, which is no result
        value = sorted(item for item in value.items() if item[0] != "lr")
    if isinstance(value, (list, tuple)):
        return b"(%b)" % b",".join(map(as_bytes, value))
    return repr(value).encode()


def print_hashes(isa, threads):
    """Run all cases; the environment has set instruction set and threads before the import."""
    if f"instruction set: {isa}," not in configuration() or nn.get_num_threads() != int(threads):
        sys.exit(f"expected {isa} on {threads} threads, got {configuration()}")
    for dtype in ("float32", "float64"):
        for name, case in CASES.items():
            digest = sha256()
            for value in case(np.dtype(dtype)):
                digest.update(as_bytes(value))
            print(isa, dtype, threads, name, digest.hexdigest()[:16])


def configuration():
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        nn.show_config()
    return f"{printed.getvalue()}from {Path(nn.__file__).parent}\n"


def all_hashes():
    """Return the output's text, from a process for each instruction set and number of threads."""
    built = re.search(r"\(built: (.*); FASTNN_ISA", configuration())[1].split(", ")
    text = ""
    for isa in (name for name in built if "not on this processor" not in name):
        for threads in ("1", "2"):
            environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "FASTNN_ISA": isa,
                           "FASTNN_NUM_THREADS": threads}
            result = subprocess.run([sys.executable, __file__, "--worker", isa, threads], text=True,
                                    stdout=subprocess.PIPE, env=environment, check=False)
            if result.returncode:
                sys.exit(f"failed with {isa} on {threads} threads")
            text += result.stdout
    return f"{text}total {sha256(text.encode()).hexdigest()[:16]}\n"


def parse(text):
    return dict(line.rsplit(" ", 1) for line in text.splitlines())


def main(file=None):
    before = file and parse(Path(file).read_text())
    print(configuration(), end="", file=sys.stderr)
    text = all_hashes()
    after, different = parse(text), []
    if file is None:
        print(text, end="")
    else:
        different = [key for key in before | after if before.get(key) != after.get(key)]
        for key in different:
            print(f"{key} {before.get(key, 'missing')} -> {after.get(key, 'missing')}")
        print(f"{len(different)} of {len(before | after)} lines differ")
    torn = [key for key in after if after.get(key.replace(" 1 ", " 2 ")) != after[key]]
    for key in torn:
        print("not the same on two threads:", key, file=sys.stderr)
    sys.exit(bool(torn or different))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        print_hashes(*sys.argv[2:])
    else:
        main(*sys.argv[1:])
