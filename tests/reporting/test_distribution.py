"""The distribution of errors against NumPy on the written statistics.

Planted and seen red: failures counted below the limit; the area not divided by it; ranks by the mean.
"""

import numpy as np
import pytest

from facerep_jax.reporting import distribution, workdirs
from facerep_jax.reporting.lines import encoder_names, ordered_lines


@pytest.fixture
def lines(runs):
    evaluations, _ = workdirs.read([runs / "landmarks/0.1"])
    return ordered_lines(evaluations, encoder_names(evaluations))


def test_errors_are_those_of_single_faces(runs, lines):
    _, ids, statistics, _ = workdirs.read_statistics(runs / "landmarks/0.1/farl")
    found = distribution.errors(lines[0])
    assert found.shape == (3, len(ids))
    np.testing.assert_allclose(found, statistics[..., 0])  # every face counts in the headline


def test_the_area_is_that_under_the_step_function():
    rng = np.random.default_rng(0)
    values, limit = rng.uniform(0, 0.15, 50), 0.1
    grid = (np.arange(100_000) + 0.5) / 100_000 * limit
    brute = (values[:, None] <= grid[None]).mean()
    assert distribution.area(values, limit) == pytest.approx(brute, abs=1e-4)
    assert distribution.area(np.zeros(3), limit) == 1
    assert distribution.area(np.full(3, limit), limit) == 0


def test_the_table(lines):
    found = {line: distribution.errors(line) for line in lines}
    table = distribution.table(found)
    assert table.header[3:] == ("Area up to 10% (%) ↑", "Failures above 10% (%) ↓")
    errors = found[lines[0]].ravel()
    want = [np.median(errors), np.quantile(errors, 0.9), np.clip(1 - errors / 0.1, 0, None).mean()]
    want += [(errors > 0.1).mean()]
    assert table.rows[0].cells[1:] == tuple(f"{100 * v:.2f}" for v in want)


def test_the_worst_faces(lines):
    e = distribution.errors(lines[0])
    others = [(line, distribution.errors(line)) for line in lines[1:3]]
    table = distribution.worst_table(lines[0], e, others)
    median = np.median(e, axis=0)
    order = np.argsort(-median)[: distribution.WORST]
    ids = lines[0].statistics[0].ids
    assert [row.cells[0] for row in table.rows] == [ids[i] for i in order]
    assert table.rows[0].cells[1:3] == tuple(f"{100 * np.median(x, axis=0)[order[0]]:.2f}" for x in (e, others[0][1]))


def test_faces_without_an_error_are_left_out(lines):
    e = distribution.errors(lines[0])
    e[:, 5] = np.nan
    chart = distribution.chart({lines[0]: e})
    assert chart.svg
    assert f"{100 * np.nanmedian(e):.2f}%" in chart.alt
    rows = distribution.worst_table(lines[0], e, []).rows
    assert lines[0].statistics[0].ids[5] not in {row.cells[0] for row in rows}


def test_only_a_headline_of_single_rows_has_a_distribution(runs, lines):
    evaluations, _ = workdirs.read([runs / "parsing"])
    parsing = ordered_lines(evaluations, encoder_names(evaluations))
    assert distribution.has_errors(lines[0])
    assert not distribution.has_errors(parsing[0])
