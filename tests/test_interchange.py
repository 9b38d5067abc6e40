"""Arrays of other libraries, in both directions, and without a copy wherever that can be."""

import numpy as np
import pytest

import fastnn
from fastnn import optim
from fastnn._door.arrays import as_any

X = np.arange(12, dtype=np.float32).reshape(4, 3)


def address(array):
    """Where its data lie."""
    return np.asarray(array).__array_interface__["data"][0]


def torch_tensor():
    torch = pytest.importorskip("torch")
    tensor = torch.from_numpy(X.copy())
    return tensor, tensor.data_ptr()


def jax_array():
    array = pytest.importorskip("jax.numpy").asarray(X)
    return array, array.unsafe_buffer_pointer()


def pandas_frame():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X.copy(), columns=list("abc"))
    return frame, address(frame)


def pandas_column():
    column = pytest.importorskip("pandas").Series(X[:, 0].copy())
    return column, address(column)


def polars_column():
    column = pytest.importorskip("polars").Series(X[:, 0].copy())
    return column, address(column.to_numpy(allow_copy=False))


def arrow_column():
    column = pytest.importorskip("pyarrow").array(X[:, 0].copy())
    return column, column.buffers()[1].address


def arrow_tensor():
    tensor = pytest.importorskip("pyarrow").Tensor.from_numpy(X)
    return tensor, address(X)


def memory_view():
    return memoryview(X), address(X)


@pytest.mark.parametrize("make", [
    torch_tensor, jax_array, pandas_frame, pandas_column, polars_column, arrow_column,
    arrow_tensor, memory_view,
])  # fmt: skip
def test_inputs_are_read_where_they_lie(make):
    given, place = make()
    seen = as_any(given, "x")
    assert address(seen) == place
    expected = X if seen.ndim == 2 else X[:, 0]
    np.testing.assert_array_equal(seen, expected)
    model = fastnn.Linear(3, 2, rng=0) if seen.ndim == 2 else fastnn.Tanh()
    np.testing.assert_array_equal(model(given), model(expected))


def test_tables_of_columns():
    polars, arrow = pytest.importorskip("polars"), pytest.importorskip("pyarrow")
    model = fastnn.Linear(3, 2, rng=0)
    columns = {name: X[:, i].copy() for i, name in enumerate("abc")}
    for table in (polars.DataFrame(columns), arrow.table(columns)):
        np.testing.assert_array_equal(model(table), model(X))
    mixed = polars.DataFrame({"a": [1, 2], "b": [0.5, 0.25], "c": [True, False]})
    np.testing.assert_array_equal(model(mixed), model([[1, 0.5, 1], [2, 0.25, 0]]))
    with pytest.raises(TypeError, match=r"x: expected real numbers, got polars"):
        model(polars.DataFrame({"a": [1.0], "b": ["word"], "c": [2.0]}))
    missing = fastnn.Tanh()(polars.Series([1.0, None]))
    assert np.isnan(missing).tolist() == [False, True]


def test_training_from_the_columns_of_a_table():
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame({"a": [0.0, 1, 2, 3], "b": [1.0, 0, 1, 0], "y": [1.0, 2, 5, 6]})
    x, y = table[["a", "b"]], table[["y"]]
    made = []
    for data in ((x, y), (x.to_numpy(), y.to_numpy())):
        model = fastnn.Linear(2, 1, rng=0)
        trainer = fastnn.Trainer(model, "mse", optim.SGD(model.parameters(), lr=0.1))
        trainer.fit(*data, epochs=3, progress=False, rng=0)
        made.append(model.get_flat())
    np.testing.assert_array_equal(*made)


# The other way ---------------------------------------------------------------------------------


def test_parameters_and_results_are_seen_by_others():
    torch = pytest.importorskip("torch")
    model = fastnn.Sequential(fastnn.Linear(3, 2), fastnn.BatchNorm1d(2), rng=0)
    weight, mean = model[0].weight, model[1].running_mean
    for entry in (weight, mean):
        tensor = torch.from_dlpack(entry)
        assert tensor.data_ptr() == address(entry.data)
        tensor += 1
        np.testing.assert_array_equal(entry.data, tensor.numpy())
    y = model(X)
    assert torch.from_dlpack(y).data_ptr() == torch.from_numpy(y).data_ptr() == address(y)
    assert address(np.frombuffer(memoryview(y), np.float32)) == address(y)


def test_parameters_and_results_are_seen_by_jax():
    jnp = pytest.importorskip("jax.numpy")
    layer = fastnn.Linear(3, 2, rng=0)
    np.testing.assert_array_equal(jnp.from_dlpack(layer.weight), layer.weight.data)
    y = layer(X)
    np.testing.assert_array_equal(jnp.from_dlpack(y), y)


def test_results_are_columns_of_tables():
    pandas, polars = pytest.importorskip("pandas"), pytest.importorskip("polars")
    arrow = pytest.importorskip("pyarrow")
    y = fastnn.Linear(3, 2, rng=0)(X)
    assert address(pandas.DataFrame(y, copy=False)) == address(y)
    column = np.ascontiguousarray(y[:, 0])
    assert arrow.array(column).buffers()[1].address == address(column)
    np.testing.assert_array_equal(polars.from_numpy(y).to_numpy(), y)


# In place --------------------------------------------------------------------------------------


def targets(tmp_path):
    """Arrays that can be written, and how to read them."""
    torch = pytest.importorskip("torch")
    disk = np.memmap(tmp_path / "weights", np.float32, "w+", shape=(4, 3))
    disk[:] = X
    buffer = bytearray(X.tobytes())
    return [disk, torch.from_numpy(X.copy()), memoryview(buffer).cast("f", (4, 3))]


def test_optimizers_write_where_the_arrays_lie(tmp_path):
    params = targets(tmp_path)
    optimizer = optim.SGD(params, lr=0.5)
    optimizer.step([np.ones_like(X), memoryview(np.ones_like(X)), 2 * np.ones_like(X)])
    for param, factor in zip(params, (0.5, 0.5, 1.0), strict=True):
        np.testing.assert_array_equal(np.asarray(param), X - factor)
    again = np.memmap(tmp_path / "weights", np.float32, "r", shape=(4, 3))
    np.testing.assert_array_equal(again, X - 0.5)


def test_results_are_written_where_they_are_wanted(tmp_path):
    for out in targets(tmp_path):
        fastnn.ops.tanh(X, out=out)
        np.testing.assert_array_equal(np.asarray(out), fastnn.ops.tanh(X))


def test_what_cannot_be_written_is_refused():
    arrow, polars = pytest.importorskip("pyarrow"), pytest.importorskip("polars")
    for target in (arrow.array(X[:, 0].copy()), polars.Series(X[:, 0].copy())):
        with pytest.raises((TypeError, ValueError), match=r"^params\[0\]: expected"):
            optim.SGD([target], lr=0.1)


def test_training_on_a_file_of_samples(tmp_path, rng):
    """A memory map is read batch by batch."""
    np.save(tmp_path / "x.npy", rng.normal(size=(64, 3)).astype("f4"))
    x = np.load(tmp_path / "x.npy", mmap_mode="r")
    y = x.sum(1, keepdims=True)
    assert address(as_any(x, "x")) == address(x)
    model = fastnn.Linear(3, 1, rng=0)
    trainer = fastnn.Trainer(model, "mse", optim.Adam(model.parameters(), lr=0.1))
    history = trainer.fit(x, y, epochs=30, batch_size=16, progress=False, rng=0)
    assert history.history["loss"][-1] < 0.01 * history.history["loss"][0]
