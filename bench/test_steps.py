"""Training steps and fits of every library, one group for each network."""

import numpy as np
import pytest

from bench.networks import DIGITS, STEPS
from bench.peers import Reference, ScikitLearn, available, check_agreement


@pytest.mark.parametrize("make", available(Reference), ids=lambda make: make.name)
@pytest.mark.parametrize("network", STEPS, ids=str)
def test_step(benchmark, network, make):
    benchmark.group = f"step of {network}"
    peer = make(network, network.initial_weights())
    x, y = peer.convert(*network.data())
    assert np.isfinite(benchmark(peer.run, x, y, 1))


@pytest.mark.parametrize("make", available(Reference, ScikitLearn), ids=lambda make: make.name)
def test_epoch(benchmark, make):
    benchmark.group = f"epoch of {DIGITS}, 57 minibatches"
    peer = make(DIGITS, DIGITS.initial_weights())
    x, y = peer.convert(*DIGITS.data(57))
    benchmark(peer.fit, x, y, DIGITS.batch, 1)


@pytest.mark.parametrize("network", STEPS[:7], ids=str)
def test_all_compute_the_same_losses(network):
    check_agreement(network)
