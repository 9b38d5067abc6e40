"""Single operations of every library, one group for each operation and shape."""

from importlib.util import find_spec

import pytest

from bench.operations import (
    PLANES,
    PRODUCT_FORMS,
    PRODUCTS,
    activation,
    activations,
    cross_entropy,
    products,
)


def libraries(baseline):
    joined = [name for name in ("fastnn", "torch") if find_spec(name)]
    return pytest.mark.parametrize("library", [*joined, baseline])


def shapes(values):
    return pytest.mark.parametrize("shape", values, ids=lambda shape: "x".join(map(str, shape)))


def run(benchmark, name, shape, calls, library):
    benchmark.group = f"{name} {'x'.join(map(str, shape))}"
    if library not in calls:
        pytest.skip(f"{library} has no {name}")
    benchmark(calls[library])


@libraries("numpy")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("form", PRODUCT_FORMS)
@shapes(PRODUCTS)
def test_product(benchmark, shape, form, dtype, library):
    run(benchmark, f"{form} {dtype}", shape, products(*shape, dtype)[form], library)


@libraries("reference")
@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize("name", activations())
@shapes(PLANES)
def test_activation(benchmark, shape, name, direction, library):
    operation = f"{name}_{direction}"
    run(benchmark, operation, shape, activation(name, *shape)[operation], library)


@libraries("reference")
@shapes(PLANES)
def test_cross_entropy(benchmark, shape, library):
    run(benchmark, "cross_entropy", shape, cross_entropy(*shape), library)
