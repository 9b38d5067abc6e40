"""Summaries and graphs: what they say is what the program does."""

import re
from itertools import pairwise
from xml.etree import ElementTree

import numpy as np
import pytest

import fastnn
from fastnn._kernels.program import Memory, Program, Version


def model():
    return fastnn.Sequential(
        fastnn.Linear(64, 128),
        fastnn.ReLU(),
        fastnn.Dropout(0.2),
        fastnn.Residual(fastnn.Linear(128, 128), fastnn.GELU()),
        fastnn.Concat(fastnn.Linear(128, 3), fastnn.Tanh()),
        fastnn.Linear(131, 10, bias=False),
        rng=0,
    )


def small():
    return fastnn.Sequential(fastnn.Linear(64, 128), fastnn.ReLU(), fastnn.Linear(128, 10), rng=0)


def rows_of(text):
    """Return the cells of each row between the rules."""
    lines = text.splitlines()
    first, last = (i for i, line in enumerate(lines) if set(line) == {"-"})
    return [re.split(r"\s{2,}", line.strip()) for line in lines[first + 1 : last]]


def test_the_summary_of_a_small_model():
    assert small().summary(batch_size=32) == """\
layer                output     parameters  bytes kept for backward
-------------------------------------------------------------------
x                    (32, 64)                                 8,192
Sequential           (32, 10)
  0 Linear(64, 128)  (32, 128)       8,320                        0
  1 ReLU()           (32, 128)           0                   16,384
  2 Linear(128, 10)  (32, 10)        1,290                        0
-------------------------------------------------------------------
parameters:        9,610 float32: 38,440 bytes, and for their gradients 38,440
kept for backward: 24,576 bytes for a batch of 32
program:           41,152 bytes for a batch of 32; 9 operations in 7 calls"""


@pytest.mark.parametrize("batch_size", [1, 32, np.int64(100)])
def test_the_numbers_of_a_summary(batch_size):
    net = model()
    text = net.summary(batch_size)
    rows = rows_of(text)
    assert [row[0] for row in rows] == [
        "x", "Sequential", "0 Linear(64, 128)", "1 ReLU()", "2 Dropout(0.2)", "3 Residual",
        "0 Linear(128, 128)", "1 GELU(approximate='none')", "4 Concat", "0 Linear(128, 3)",
        "1 Tanh()", "5 Linear(131, 10, bias=False)",
    ]  # fmt: skip
    outputs = [row[1] for row in rows]
    assert outputs[-1] == outputs[1] == f"({batch_size}, 10)"
    total = sum(p.size for p in net.parameters())
    assert f"parameters:        {total:,} float32: {4 * total:,} bytes" in text
    schedule = net._schedule((64,), training=True)
    places = {value.storage or value: value.row_bytes for value in schedule.kept_for_backward()}
    kept = batch_size * sum(places.values())
    assert f"kept for backward: {kept:,} bytes" in text
    program = Program(schedule, Memory(), Version())
    program.reserve(int(batch_size))
    assert f"program:           {program.nbytes:,} bytes" in text
    assert f"{len(schedule.operations)} operations in {len(schedule.calls)} calls" in text


def test_a_layer_used_twice_is_counted_once():
    layer = fastnn.Linear(4, 4)
    text = fastnn.Sequential(layer, layer, rng=0).summary()
    assert [row[2] for row in rows_of(text)[2:]] == ["20", "0"]
    assert "parameters:        20 float32" in text


def test_where_the_input_shape_comes_from():
    assert "(1, 64)" in fastnn.Linear(64, 2).summary()
    assert "(1, 4)" in fastnn.Sequential(fastnn.ReLU(), fastnn.Linear(4, 2)).summary()
    layer = fastnn.Sequential(fastnn.Flatten(), fastnn.Tanh())
    for describe in (layer.summary, layer.graph):
        with pytest.raises(ValueError, match="input_shape: expected the shape of one sample"):
            describe()
    assert "(1, 4, 5)" in layer.summary(input_shape=(4, 5))
    assert "(1, 7)" in layer.summary(input_shape=7)
    layer(np.ones((2, 3, 8)))
    assert "(1, 3, 8)" in layer.summary()
    assert "(6, 2, 3)" in layer.summary(6, (2, 3))
    assert "x (batch, 3, 8) -> y (batch, 24)" in layer.graph()


def test_bad_arguments():
    net = small()
    for arguments, error, name in (
        ({"batch_size": 0}, ValueError, "batch_size"),
        ({"batch_size": 1.5}, TypeError, "batch_size"),
        ({"input_shape": (-1,)}, ValueError, "input_shape"),
        ({"input_shape": (2.5,)}, TypeError, "input_shape"),
        ({"input_shape": (5,)}, ValueError, "64 features"),
    ):
        with pytest.raises(error, match=name):
            net.summary(**arguments)
    with pytest.raises(ValueError, match="format: expected 'text', 'dot' or 'svg'"):
        net.graph("png")


def test_the_graph_of_a_small_model_as_text():
    assert small().graph(detail="kernels") == """\
Sequential (float32): x (batch, 64) -> y (batch, 10)
forward
  rows       x (batch, 64) = copy_columns(given)
  rows    0  h1 (batch, 128) = linear_forward(x, 0.weight, 0.bias)
  rows    1  then h2 (batch, 128) = relu_forward(h1)  (in place)
  rows    2  y (batch, 10) = linear_forward(h2, 2.weight, 2.bias)
backward
  rows    2  dh2 (batch, 128) = linear_backward_input(dy, 2.weight)
  rows    1  then dh1 (batch, 128) = relu_backward(dh2, h2)  (in place)
  rows    0  dx (batch, 64) = linear_backward_input(dh1, 0.weight)
parameter gradients
  items   0  d0.weight (128, 64), d0.bias (128,) = linear_backward_weight(dh1, x)
  items   2  d2.weight (10, 128), d2.bias (10,) = linear_backward_weight(dy, h2)"""


def test_a_graph_tells_who_shares_what_and_where_threads_wait():
    net = fastnn.Sequential(fastnn.Linear(4, 3), fastnn.BatchNorm1d(3), fastnn.ReLU(), rng=0)
    lines = net.graph(detail="kernels").splitlines()
    found = [line.split()[0] if "wait" not in line else "wait" for line in lines]
    assert found == [
        "Sequential", "forward", "rows", "rows", "wait", "items", "wait", "rows",
        "backward", "rows", "wait", "items", "wait", "rows", "parameter", "items",
    ]  # fmt: skip


def test_every_operation_is_in_every_graph():
    net = model()
    operations = net._schedule((64,), training=True).operations
    for format in ("text", "dot", "svg"):
        text = re.sub("<title>[^<]*</title>", "", net.graph(format, detail="kernels"))
        found = sorted(re.findall(r"\b(?!cluster)\w+_(?:forward|backward)\w*|copy_columns", text))
        assert found == sorted(op.kernel for op in operations)
    text = net.graph(detail="kernels")
    assert "2.random_state" in text
    assert "linear_forward(h9, 5.weight, -)" in text
    assert " += linear_backward_input(" in text
    assert "array" not in text


def test_a_graph_for_graphviz():
    text = model().graph("dot", detail="kernels")
    nodes = set(re.findall(r'^ +("?\w+"?) \[(?:label|shape)', text, re.MULTILINE))
    nodes -= {"node", "edge"}
    edges = re.findall(r'^ +("?\w+"?) -> ("?\w+"?)[; ]', text, re.MULTILINE)
    assert {node for edge in edges for node in edge} == nodes
    assert {'"x"', '"y"', '"dy"', '"dx"'} <= nodes
    assert text.count("{") == text.count("}") == 4
    assert text.count('"') % 2 == 0
    for stage in ("forward", "backward", "gradient"):
        assert f"subgraph cluster_{stage} {{" in text
    # both halves of what Concat joins lead to the last product
    last = re.search(r"(op\d+) \[label=\"5 linear_forward", text)[1]
    assert sum(end == last for _, end in edges) == 2


def test_a_graph_for_graphviz_is_read_by_a_parser():
    pydot = pytest.importorskip("pydot")
    (graph,) = pydot.graph_from_dot_data(model().graph("dot", detail="kernels"))
    assert len(graph.get_subgraphs()) == 3


def test_a_graph_as_a_picture():
    root = ElementTree.fromstring(model().graph("svg", detail="kernels"))
    space = "{http://www.w3.org/2000/svg}"
    assert root.tag == space + "svg"
    width, height = float(root.get("width")), float(root.get("height"))
    boxes = [r for r in root.iter(space + "rect") if r.get("class") in ("box", "pill")]
    operations = model()._schedule((64,), training=True).operations
    assert len(boxes) == len(operations) + 4
    assert "max-width:100%" in root.get("style")
    apart(boxes, width, height)


def places_of(boxes):
    return [tuple(float(r.get(k)) for k in ("x", "y", "width", "height")) for r in boxes]


def apart(boxes, width, height):
    """No two boxes overlap, and none is cut off."""
    places = places_of(boxes)
    for i, (x, y, w, h) in enumerate(places):
        assert x >= 0
        assert y >= 0
        assert x + w <= width
        assert y + h <= height
        for x2, y2, w2, h2 in places[:i]:  # no two overlap
            assert x + w <= x2 or x2 + w2 <= x or y + h <= y2 or y2 + h2 <= y


def test_layers_without_operations_and_layers_in_python():
    class Shift(fastnn.Layer):
        """A layer with < and & in its name must not break a picture."""

        def forward(self, x, training=False):
            return x + 1

        def backward(self, dy, accumulate=False):
            return dy

        def __repr__(self):
            return 'Shift("<&>")'

    net = fastnn.Sequential(fastnn.Flatten(), Shift(), fastnn.Flatten())
    ElementTree.fromstring(net.graph("svg", (2, 3)))
    assert net.graph("dot", (2, 3)).count('"') % 2 == 0
    assert "python_forward" in net.graph("text", (2, 3), "kernels")
    for format in ("text", "dot", "svg"):
        for detail in ("layers", "kernels"):
            assert fastnn.Flatten().graph(format, (2, 3), detail)


def test_every_layer_can_be_drawn():
    sample = np.ones((4, 6), np.float32)
    layers = [fastnn.Linear(6, 3), fastnn.LayerNorm(6), fastnn.BatchNorm1d(6), fastnn.Dropout(),
              fastnn.Softmax(), fastnn.LogSoftmax(), fastnn.GELU("tanh"), fastnn.LeakyReLU()]
    for layer in layers:
        layer(sample)
        assert rows_of(layer.summary())[1][0] == repr(layer)
        assert "x (batch, 6) -> y" in layer.graph()
        ElementTree.fromstring(layer.graph("svg"))


# Layers ------------------------------------------------------------------------------------------


def several():
    """Models with all that a graph of layers can show."""
    recurrent = fastnn.Sequential(
        fastnn.Embedding(9, 4), fastnn.LSTM(4, 5, num_layers=2, return_sequences=False),
        fastnn.LayerNorm(5), fastnn.Linear(5, 2), rng=0,
    )  # fmt: skip
    net = model()
    optimizer = fastnn.optim.SGD(net.parameters(), lr=0.1)
    return [
        small(), net, recurrent, fastnn.Linear(3, 2, rng=0),
        fastnn.Trainer(net, "cross_entropy", optimizer, l2=0.5),
        fastnn.Trainer(small(), lambda pred, y: (0.0, pred), None),
        fastnn.Trainer(fastnn.Linear(3, 2, rng=0), "mse", None, l2=0.5),
    ]  # fmt: skip


def test_the_graph_of_layers_as_text():
    assert small().graph() == """\
Sequential (float32): x (batch, 64) -> y (batch, 10)
forward
               x                  (batch, 64)                                     \
keeps 256 bytes a sample
  rows         0 Linear(64, 128)  h1 (batch, 128) = f(x; 0.weight, 0.bias)
               1 ReLU()           h2 (batch, 128) = f(h1)                         \
fused, in place, keeps 512 bytes a sample
  rows         2 Linear(128, 10)  y (batch, 10) = f(h2; 2.weight, 2.bias)
backward
  rows, items  2 Linear(128, 10)  dh2, d2.weight, d2.bias = f'(dy, h2, 2.weight)
               1 ReLU()           dh1 = f'(dh2, h2)
  -- wait --
  rows, items  0 Linear(64, 128)  dx, d0.weight, d0.bias = f'(dh1, x, 0.weight)"""


def test_the_bytes_of_a_graph_are_those_of_the_summary():
    net = model()
    found = [int(n.replace(",", "")) for n in re.findall(r"keeps ([\d,]+) bytes", net.graph())]
    assert f"kept for backward: {sum(found):,} bytes" in net.summary()


def test_forks_and_joins():
    text = model().graph()
    assert "3 Residual: +                  h6 (batch, 128) = f(h3, h5)" in text
    assert "4 Concat: join                 h9 (batch, 131) = f(h7, h8)" in text
    assert "4.1 Tanh()                     h8 (batch, 128) = f(h6)" in text


def test_what_is_kept_beside_outputs_is_told_by_its_layer():
    text = model().graph()
    assert "dh2 = f'(dh3, kept by 2)" in text  # a mask
    assert "dh1 = f'(dh2, h2)" in text


def test_a_trainer_adds_loss_and_penalty():
    net = small()
    trainer = fastnn.Trainer(net, "cross_entropy", None, l2=0.5)
    text = trainer.graph()
    assert re.search(r"loss +cross_entropy\(y, target\)", text)
    assert re.search(r"penalty +0.5/2 · Σ‖W‖² of 0.weight, 2.weight", text)
    assert "cross_entropy_loss(y, target" in trainer.graph(detail="kernels")
    assert "dweight + λ·weight" in trainer.graph("svg")
    assert "penalty" not in fastnn.Trainer(net, "mse", None).graph()
    before = net.state_dict()
    trainer.step(np.ones((2, 64)), [0, 1])
    assert "loss" in trainer.graph("dot")
    assert all((before[key] == value).all() for key, value in net.state_dict().items())
    with pytest.raises(ValueError, match="detail: expected 'layers' or 'kernels'"):
        trainer.graph(detail="all")


def test_before_the_first_call_a_number_stands_in_for_a_free_length():
    net = fastnn.Sequential(fastnn.LSTM(3, 4), rng=0)
    assert "x (batch, 10, 3)" in net.graph()
    assert "10 steps stand for any number" in net.graph()
    assert "10 steps stand for any number" in net.summary()
    assert "10 steps stand for any number" in net.graph("svg", detail="kernels")
    net(np.ones((2, 7, 3)))
    assert "x (batch, 7, 3)" in net.graph()
    assert "stand for" not in net.graph()


def test_packed_weights_have_their_arrows():
    net = fastnn.Sequential(fastnn.LSTM(3, 4), rng=0)
    text = net.graph("dot", detail="kernels")
    pack = re.search(r'(op\d+) \[label="0 lstm_pack', text)[1]
    assert len(re.findall(rf"{pack} -> op", text)) == 3  # the product, the cells, the way back


SPACE = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize("detail", ["layers", "kernels"])
def test_no_arrow_runs_under_a_box(detail):
    for thing in several():
        root = ElementTree.fromstring(thing.graph("svg", detail=detail))
        boxes = [r for r in root.iter(SPACE + "rect") if r.get("class") in ("box", "pill")]
        apart(boxes, float(root.get("width")), float(root.get("height")))
        assert len(list(root.iter(SPACE + "title"))) > len(boxes)
        assert "kept for backward" in "".join(root.itertext())
        for path in root.iter(SPACE + "path"):
            if "edge" not in (path.get("class") or ""):
                continue
            points = [(float(a), float(b)) for a, b in
                      re.findall(r"(-?[\d.]+),(-?[\d.]+)", path.get("d"))]  # fmt: skip
            for (x1, y1), (x2, y2) in pairwise(points):
                for x, y, w, h in places_of(boxes):
                    apart_x = max(x1, x2) <= x + 0.1 or min(x1, x2) >= x + w - 0.1
                    apart_y = max(y1, y2) <= y + 0.1 or min(y1, y2) >= y + h - 0.1
                    assert apart_x or apart_y, (thing, path.get("d"), (x, y, w, h))


def test_a_graph_of_layers_for_graphviz():
    for thing in several():
        text = thing.graph("dot")
        nodes = set(re.findall(r"^ +(\w+) \[(?:label|shape)", text, re.MULTILINE))
        nodes -= {"node", "edge"}
        edges = re.findall(r"^ +(\w+) -> (\w+)[; ]", text, re.MULTILINE)
        assert {node for edge in edges for node in edge} == nodes
        assert text.count('"') % 2 == 0


def test_summaries_and_graphs_show_themselves():
    net = small()
    for text in (net.summary(), net.graph()):
        assert repr(text) == str(text) == text
        assert text._repr_html_().startswith("<pre")
    assert net.graph("svg")._repr_svg_().startswith("<svg")
