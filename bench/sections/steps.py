"""A training step of multilayer perceptrons in every library."""

from collections.abc import Iterable, Iterator
from functools import partial

from bench.networks import STEPS, WIDTHS, Network
from bench.peers import Peer, available, check_agreement
from bench.timing import Record, Run, record


def training(make: type[Peer], network: Network) -> partial:
    """Return the function that takes n steps on one minibatch."""
    peer = make(network, network.initial_weights())
    return partial(peer.run, *peer.convert(*network.data()))


def steps(run: Run) -> Iterator[Record]:
    """One training step: forward, loss, backward, Adam"""
    yield from measured(run, run.some(STEPS, 3))


def widths(run: Run) -> Iterator[Record]:
    """One training step of three square layers, batch 64, against their width"""
    yield from measured(run, WIDTHS[::3] if run.quick else WIDTHS)


def measured(run: Run, networks: Iterable[Network]) -> Iterator[Record]:
    """Yield a row for each network, whose losses have been the same with every library."""
    for network in networks:
        check_agreement(network)
        yield record(
            str(network),
            run.times({make.name: training(make, network) for make in available()}),
            target=network.targets.get(run.threads),
            limit=run.machine.seconds(network.flops(), network.bytes(), network.dtype),
        )
