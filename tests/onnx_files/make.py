"""Writes the files of ONNX that test_onnx_load.py reads, as other programs export them.

``python make.py keras`` (keras, tensorflow and tf2onnx; Keras 3.15, tf2onnx 1.17), ``torch``
(PyTorch 2.13 with onnxscript, by both of its exporters) or ``sklearn`` (skl2onnx 1.20). Beside the
files lie inputs and outputs, in an archive of NumPy.
"""

import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent


def keras():
    """Models of Keras by tf2onnx."""
    import keras
    import tensorflow as tf
    import tf2onnx

    layers = keras.layers
    keras.utils.set_random_seed(0)

    def model(shape, *parts, dtype="float32"):
        return keras.Sequential([layers.Input(shape, dtype=dtype), *parts])

    def dense(units, activation=None):
        return layers.Dense(units, activation)

    names = ("silu", "elu", "selu", "softplus", "mish", "tanh", "sigmoid")
    both = layers.Bidirectional
    models = {
        "dense": model((4,), dense(5, "relu"), layers.Dropout(0.2), dense(3, "softmax")),
        "activations": model((4,), *(dense(4, name) for name in names), layers.LeakyReLU()),
        "batch_norm": model((4,), dense(5), layers.BatchNormalization(), dense(3, "relu")),
        "layer_norm": model((6,), layers.LayerNormalization(), dense(5),
                            layers.LayerNormalization(epsilon=1e-4), dense(2)),
        "lstm": model((None, 3), layers.LSTM(4, return_sequences=True), layers.LSTM(5), dense(2)),
        "bidirectional": model((None, 3), both(layers.LSTM(4, return_sequences=True)),
                               both(layers.LSTM(5)), dense(2)),
        "embedding": model((None,), layers.Embedding(9, 4), layers.LSTM(5), dense(2),
                           dtype="int32"),
        "flatten": model((5, 3), dense(4, "relu"), layers.Flatten(), dense(2)),
    }  # fmt: skip
    x = layers.Input((4,))
    h = layers.Add()([x, dense(4, "relu")(x)])
    models["branches"] = keras.Model(x, dense(2)(layers.Concatenate()([dense(3)(h), h])))
    rng = np.random.default_rng(0)
    for name, net in models.items():
        for weight in net.weights:
            if len(weight.shape) == 1:
                weight.assign(rng.uniform(0.5, 1.5, weight.shape))
        shape = (3, *(n or 6 for n in net.input_shape[1:]))
        whole = name == "embedding"
        given = rng.integers(0, 9, shape).astype("i4") if whole else rng.normal(size=shape)
        given = given if whole else given.astype("f4")
        spec = (tf.TensorSpec(net.inputs[0].shape, net.inputs[0].dtype, name="x"),)
        function = tf.function(lambda x, net=net: net(x, training=False), input_signature=spec)
        path = str(HERE / f"keras_{name}.onnx")
        tf2onnx.convert.from_function(function, input_signature=spec, opset=17, output_path=path)
        yield f"keras_{name}", given, np.asarray(net(given))


def torch():
    """Modules of PyTorch by its exporters, the older one by TorchScript."""
    import torch
    from torch import nn

    torch.manual_seed(0)

    class Sequence(nn.Module):
        def __init__(self, layers, bidirectional, states):
            super().__init__()
            self.lstm = nn.LSTM(3, 4, layers, batch_first=True, bidirectional=bidirectional)
            self.dense, self.states = nn.Linear(8 if bidirectional else 4, 2), states

        def forward(self, x):
            y, (h, _) = self.lstm(x)
            return self.dense(torch.cat([h[-2], h[-1]], -1) if self.states else y[:, -1])

    class Branches(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.one, self.two = nn.LayerNorm(4), nn.Linear(4, 4), nn.Linear(4, 3)

        def forward(self, x):
            h = x + torch.relu(self.one(self.norm(x)))
            return torch.cat([self.two(h), h], -1).reshape(x.size(0), -1)

    activations = (nn.GELU(), nn.GELU("tanh"), nn.SiLU(), nn.ELU(0.7), nn.SELU(), nn.Mish(),
                   nn.Softplus(2.0), nn.LeakyReLU(0.2), nn.Tanh(), nn.Sigmoid(), nn.LogSoftmax(-1))
    shared = nn.Linear(4, 4)
    models = {
        "activations": (nn.Sequential(nn.Linear(4, 5), *activations), (4,)),
        "batch_norm": (nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.ReLU()), (4,)),
        "layer_norm": (nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 5), nn.LayerNorm(
            5, 1e-3, elementwise_affine=False)), (7, 4)),
        "lstm": (Sequence(2, False, False), (7, 3)),
        "states": (Sequence(1, True, True), (7, 3)),
        "branches": (Branches(), (4,)),
        "shared": (nn.Sequential(shared, nn.Tanh(), shared), (4,)),
        "flatten": (nn.Sequential(nn.Flatten(), nn.Linear(6, 2)), (2, 3)),
        "embedding": (nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 2)), (5,)),
    }  # fmt: skip
    for name, (module, shape) in models.items():
        for key, tensor in module.eval().state_dict().items():
            if "running" in key or "norm" in key:
                tensor.uniform_(0.5, 1.5)
        indices = name == "embedding"
        x = torch.randint(0, 9, (3, *shape)) if indices else torch.randn(3, *shape)
        axes = {0: "batch"} | ({1: "time"} if name in ("lstm", "states", "embedding") else {})
        for kind in ("script", "dynamo"):
            options = {"dynamic_axes": {"x": axes}, "opset_version": 17, "dynamo": False}
            if kind == "dynamo":
                sizes = {i: torch.export.Dim(axis) for i, axis in axes.items()}
                options = {"dynamic_shapes": [sizes], "opset_version": 18, "external_data": False,
                           "dynamo": True, "verbose": False}  # fmt: skip
            path = HERE / f"torch_{name}_{kind}.onnx"
            torch.onnx.export(module, (x,), path, input_names=["x"], output_names=["y"], **options)
            yield f"torch_{name}_{kind}", x.numpy(), module(x).detach().numpy()


def sklearn():
    """Networks of scikit-learn by skl2onnx."""
    from skl2onnx import to_onnx
    from sklearn.neural_network import MLPClassifier, MLPRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 4))
    labels, options = rng.integers(0, 3, 60), {"hidden_layer_sizes": (5,), "max_iter": 20}
    models = {
        "classes": (MLPClassifier(**options), np.array(["a", "b", "c"])[labels]),
        "two_classes": (MLPClassifier(activation="tanh", **options), labels > 0),
        "regressor": (MLPRegressor(activation="logistic", **options), x[:, 0]),
        "pipeline": (make_pipeline(StandardScaler(), MLPRegressor(**options)), x[:, 0]),
    }
    for name, (model, y) in models.items():
        model.fit(x, y)
        for dtype in ("float32", "float64"):
            given = x[:5].astype(dtype)
            (HERE / f"sklearn_{name}_{dtype}.onnx").write_bytes(
                to_onnx(model, given).SerializeToString()
            )
            predict = getattr(model, "predict_proba", model.predict)
            yield f"sklearn_{name}_{dtype}", given, predict(given).reshape(5, -1)


if __name__ == "__main__":
    kind = sys.argv[1]
    arrays = {}
    for name, x, y in {"keras": keras, "torch": torch, "sklearn": sklearn}[kind]():
        arrays |= {f"{name}.x": x, f"{name}.y": y}
    np.savez(HERE / f"{kind}.npz", **arrays)
