"""Optimizer steps of every library, one group for each rule and set of arrays."""

import pytest

from bench.sections.optimizers import ARRAYS, RULES, contenders, waiting

CASES = [(rule, arrays, c) for arrays in ARRAYS for rule in RULES for c in contenders(rule, arrays)]


@pytest.mark.parametrize(("rule", "arrays", "contender"), CASES)
def test_step(benchmark, rule, arrays, contender):
    benchmark.group = f"{arrays} {rule}"
    wait = waiting(contenders(rule, arrays)[contender]())
    wait(1)
    benchmark(wait, 1)
