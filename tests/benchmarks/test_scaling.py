"""Slopes and rows from figures made by hand; slow: a tiny step compiled for devices of one process and of two."""

import json
import math
import re

import pytest

from benchmarks.scaling import CONFIGS, OBJECTIVES, row, slope
from tests.benchmarks.test_benchmarks import printed


def test_a_slope_is_the_exponent():
    assert slope((n, 3 * n**1.5) for n in (1, 2, 4, 8)) == pytest.approx(1.5)
    assert slope((n, 7.0) for n in (2, 4)) == pytest.approx(0)
    assert math.isnan(slope([(1, 5.0), (2, 0.0)]))


def test_a_config_of_a_published_method_is_there_or_left_out_with_reason():
    """`farl_nano` and its like are FaRL's, MCF's and FRL's objectives at another size."""
    there = {path.stem for path in CONFIGS.glob("[a-z]*.py")}
    assert there - set(OBJECTIVES) == {"farl_nano", "mcf_nano", "frl_nano"}
    assert set(OBJECTIVES) <= there


def found(devices, processes=1, gathered=1000):
    sent = {"all-reduce": 8_000_000, "all-gather": gathered * devices} if devices > 1 else {}
    return dict(
        devices=devices, processes=processes, flops=2e6 * devices, analytic=1e6, bytes=sent, temporaries=5_000_000
    )


def test_a_row_has_figures_and_slopes():
    alone = [found(1), found(2), found(4)]
    cells = [cell.strip() for cell in row("swav", [*alone, found(2, 2), found(4, 4)]).strip("|").split("|")]
    assert cells == [
        "swav",
        "2.0, 8.0 (+1.000)",
        "8.00",
        "8.000 (+0.000)",
        "0.004 (+1.000)",
        "0",
        "5.0 (+0.000)",
        "2, 4: equal",
    ]
    assert "2, 4: differs" in row("swav", [*alone, found(2, 2), found(4, 4, gathered=999)])
    assert "not tried" in row("swav", alone)


@pytest.mark.slow
@pytest.mark.multihost
def test_a_step_is_compiled_for_devices_of_one_process_and_of_two(tmp_path):
    path = tmp_path / "found.json"
    flags = ("--objectives=simsiam", "--devices=1,2", "--processes=2", f"--json={path}")
    out = printed("scaling", *flags)
    assert re.search(r"^\| simsiam \| [\d.]+, [\d.]+ \| 1\.\d\d \|.*\| 2: equal \|$", out, re.M), out
    one, two, apart = json.loads(path.read_text())["simsiam"]
    assert one["bytes"] == {}
    assert two["bytes"]["all-reduce"] > 0
    assert apart == two | {"processes": 2}
