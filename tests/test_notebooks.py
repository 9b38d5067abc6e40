"""What notebooks show: objects as tables, and a whole notebook run without a browser."""

from xml.etree import ElementTree

import numpy as np
import pytest

import fastnn
from fastnn import optim, schedules

X = np.random.default_rng(0).normal(size=(64, 2)).astype(np.float32)
Y = (X[:, 0] > 0).astype(np.int64)


def trained(epochs=3):
    model = fastnn.Sequential(fastnn.Linear(2, 8), fastnn.Tanh(), fastnn.Linear(8, 2), rng=0)
    optimizer = optim.Adam(model.parameters(), lr=schedules.cosine_decay(0.1, 100))
    trainer = fastnn.Trainer(model, "cross_entropy", optimizer, l2=0.001)
    history = trainer.fit(X, Y, epochs=epochs, validation_data=(X, Y), metrics=["accuracy"])
    return model, optimizer, trainer, history


def parsed(thing):
    """Return the text of what a notebook shows, which must be well-formed."""
    text = thing._repr_html_().replace("<details open>", "<details>")
    return "".join(ElementTree.fromstring(f"<div>{text}</div>").itertext())


def test_objects_are_tables():
    model, optimizer, trainer, history = trained()
    text = parsed(model)
    assert "Sequential 42 parameters, float32" in text
    assert "Linear(8, 2)" in text
    assert "(batch, 8)" in text
    assert "Adam 4 arrays, 6 steps taken" in parsed(optimizer)
    assert "cosine_decay(initial=0.1, steps=100, final=0.0)" in parsed(optimizer)
    text = parsed(trainer)
    assert "cross_entropy()" in text
    assert "l20.001" in text
    assert "42 parameters" in text
    text = parsed(history)
    assert "History 3 epochs" in text
    assert "val_accuracy" in text
    assert history._repr_html_().count("<svg") == len(history.history)
    assert parsed(fastnn.History())
    groups = [{"params": [np.ones(2)], "lr": 0.5}, {"params": [np.ones(3)]}]
    assert "group 1" in parsed(optim.SGD(groups, lr=0.1, clip_norm=1.0))


def test_a_layer_that_is_shown_stays_as_it_was():
    """Its first values are those of the model that it is put into later."""
    layer = fastnn.Linear(2, 3)
    assert "9 parameters" in parsed(layer)
    shown = fastnn.Sequential(layer, fastnn.Dropout(), rng=0)
    parsed(shown)
    plain = fastnn.Sequential(fastnn.Linear(2, 3), fastnn.Dropout(), rng=0)
    assert (shown.get_flat() == plain.get_flat()).all()
    parsed(shown)
    out = [net.forward(X, training=True) for net in (shown, plain)]
    assert (out[0] == out[1]).all()


def test_layers_with_strange_names_and_shapes():
    class Odd(fastnn.Layer):
        def forward(self, x, training=False):
            return x

        def __repr__(self):
            return "Odd('<&>')"

    assert "Odd('<&>')" in parsed(fastnn.Sequential(Odd(), rng=0))
    net = fastnn.Sequential(fastnn.Flatten(), Odd())
    net.build()
    assert parsed(net)  # of any shape


CELLS = [
    """
import numpy as np, fastnn
x = np.random.default_rng(0).normal(size=(64, 2)); y = (x[:, 0] > 0).astype(int)
model = fastnn.Sequential(fastnn.Linear(2, 8), fastnn.Tanh(), fastnn.Linear(8, 2), rng=0)
trainer = fastnn.Trainer(model, "cross_entropy", fastnn.optim.Adam(model.parameters(), lr=0.1))
model
""",
    """
stopping = fastnn.EarlyStopping("val_loss", patience=1, min_delta=1e6)
h = trainer.fit(x, y, epochs=5, validation_data=(x, y), callbacks=[stopping])
""",
    "h.plot()",
    "h.plot();",
    "import matplotlib.pyplot as plt; plt.plot([1, 2]);",
    "print(plt.isinteractive())",
    "fastnn.plot.schedule_values(fastnn.schedules.linear(0.0, 1.0, 5), 9);",
    "model.summary()",
    'model.graph("svg")',
    "model.graph()",
    "h",
    "trainer",
    "trainer.optimizer",
]


def test_a_notebook():
    """Figures come once, also those of the user's own that follow; the progress is seen."""
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    pytest.importorskip("matplotlib_inline")
    nbformat = pytest.importorskip("nbformat")
    from nbformat import v4

    cells = [v4.new_code_cell(source.strip()) for source in CELLS]
    notebook = v4.new_notebook(cells=cells)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
        nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    nbformat.validate(notebook)
    outputs = [cell.outputs for cell in notebook.cells]

    def kinds(i):
        return [key for output in outputs[i] for key in output.get("data", ())]

    def text(i):
        return "".join(str(output.get("text", "")) for output in outputs[i])

    assert "text/html" in kinds(0)
    assert "epoch" in text(1) or kinds(1)  # a line, or a widget
    assert text(1).count("stopped after") == 1
    for i in (2, 3, 4, 6):
        assert kinds(i).count("image/png") == 1, CELLS[i]
    assert text(5).strip() == "True"
    assert kinds(8).count("image/svg+xml") == 1
    for i in (7, 9):
        assert outputs[i][0]["data"]["text/html"].startswith("<pre")
        assert "Linear(2, 8)" in outputs[i][0]["data"]["text/plain"]
    for i in (10, 11, 12):
        assert "text/html" in kinds(i)
