"""A simulated run against what can be worked out: its goodput, and the best interval between its saves."""

import math
import re

import pytest

from benchmarks.goodput import GRID, Machine, best, daly, goodput, young
from tests.benchmarks.test_benchmarks import printed

HOUR = 3600.0


@pytest.mark.parametrize("interval", [300.0, 1800.0, 7200.0])
@pytest.mark.parametrize("write", [0.0, 120.0])
def test_a_simulation_agrees_with_the_closed_form(interval, write):
    """Of lives without memory; k saves are whole with probability exp(-(restart + k (interval + stall) + write) / M).

    Tried: steps since the last save counted too; the start left out.
    """
    machine = Machine(6 * HOUR, stall=20.0, write=write, restart=300.0)
    mean = machine.between_failures
    expected = interval / mean * math.exp(-(300 + write) / mean) / math.expm1((interval + 20) / mean)
    assert goodput(machine, interval, starts=20_000) == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("stall", [5.0, 60.0])
def test_the_best_interval_is_dalys(stall):
    machine = Machine(10 * HOUR, stall=stall, write=0.0, restart=300.0)
    interval, value = best(machine)
    assert interval == pytest.approx(daly(machine), rel=0.5)  # the optimum is flat
    assert value - goodput(machine, daly(machine)) < 0.002
    for factor in (GRID[0], GRID[-1]):
        assert goodput(machine, factor * daly(machine)) < value


def test_dalys_interval_by_hand():
    machine = Machine(between_failures=5000.0, stall=100.0, write=0.0, restart=0.0)
    assert young(machine) == 1000.0
    assert daly(machine) == pytest.approx(1000 * (1 + 0.1 / 3 + 0.01 / 9) - 100)
    assert daly(machine._replace(stall=10_000.0)) == 5000.0


def test_a_save_waits_for_the_one_before():
    """Saves that take ten times as long as the steps between them hold the run up."""
    machine = Machine(1000 * HOUR, stall=0.0, write=100.0, restart=0.0)
    assert goodput(machine, 10.0, starts=20) == pytest.approx(0.1, rel=0.01)
    assert goodput(machine, 100.0, starts=20) == pytest.approx(1.0, rel=0.01)


def test_it_prints_a_row_for_each_rate_and_stall():
    out = printed("goodput", "--host_hours=1000,6300", "--stall=60", "--hosts=2048")
    assert re.search(
        r"^\| 1,000, 0\.5 \| 60 \| [\d.]+ min \| 7\.7 min \| [\d.]+ min \| [\d.]+% \| [\d.]+% \|$", out, re.M
    )
    assert len(out.splitlines()) == 6
