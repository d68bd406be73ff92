"""Who is compared with whom, and when a winner is one."""

import json
import math

import pytest

from facerep_jax.evaluation.statistics import paired_difference, summary
from facerep_jax.reporting import comparison, wording, workdirs
from facerep_jax.reporting.lines import encoder_names, ordered_lines, rank

FARL = "farl, step 20,000, ema"


def lines_in(folder):
    evaluations, _ = workdirs.read([folder])
    return ordered_lines(evaluations, encoder_names(evaluations))


def against_random(folder):
    farl, random = lines_in(folder)[:2]
    return comparison.compare(farl, random)


def test_a_comparison_is_the_paired_bootstrap_turned_so_that_above_0_is_better(runs):
    for task, value in (("landmarks/0.1", lambda s, w: (w @ s)[:, 0] / (w @ s)[:, 3]), ("parsing", None)):
        c = next(
            c
            for c in comparison.comparisons(lines_in(runs / task))
            if (c.line.name, c.other.name) == (FARL, wording.RANDOM)
        )
        read = [workdirs.read_statistics(runs / task / name)[2] for name in ("random", "farl")]
        lower = value is not None
        headline = c.line.results.headline
        d = paired_difference(
            *read, value or (lambda s, w, c=c, name=headline: c.line.metric.compute(s, w)[name]), lower_is_better=lower
        )
        low, high = (-d.high, -d.low) if lower else (d.low, d.high)
        assert (c.improvement, *c.interval) == pytest.approx((abs(d.difference), low, high))
        assert (c.gain, c.verdict, c.note) == (pytest.approx(d.relative_gain), "better", "")


def test_a_winner_is_bold_only_if_it_is_certainly_better_than_every_other(runs, tmp_path, written):
    lines = lines_in(runs / "landmarks/0.1")  # two pre-trained encoders that are almost the same
    compared = comparison.comparisons(lines)
    best, second = sorted(lines, key=rank)[:2]
    between = next(c for c in compared if {c.line, c.other} == {best, second})
    assert between.verdict == "not decided"
    assert comparison.winner(lines, compared) is None
    assert not any(row.best for row in comparison.result_tables(lines, compared)[0].rows)

    written.evaluation(tmp_path / "farl", 0.06, checkpoint=written.farl, baselines={"mean_shape": 0.2})
    written.evaluation(tmp_path / "random", 0.1, checkpoint="random", baselines={"mean_shape": 0.2})
    lines = lines_in(tmp_path)
    table = comparison.result_tables(lines, comparison.comparisons(lines))[0]
    assert [row.cells[0] for row in table.rows if row.best] == [FARL]
    assert "Bold" in table.caption


def test_a_baseline_can_win(tmp_path, written):
    written.evaluation(tmp_path / "farl", 0.1, checkpoint=written.farl, baselines={"linear_pixels": 0.05})
    written.evaluation(tmp_path / "random", 0.12, checkpoint="random", baselines={"linear_pixels": 0.05})
    lines = lines_in(tmp_path)
    compared = comparison.comparisons(lines)
    assert comparison.winner(lines, compared).name == "linear pixels"
    assert {(c.line.name, c.other.name): c.verdict for c in compared} == {
        (FARL, wording.RANDOM): "better",
        (FARL, "linear pixels"): "worse",
        ("linear pixels", wording.RANDOM): "better",
    }


def test_intervals_are_drawn_where_there_are_some(runs):
    lines = lines_in(runs / "parsing")
    compared = comparison.comparisons(lines)
    _, table, _ = comparison.result_tables(lines, compared)
    c = compared[0]
    assert table.rows[0].interval == (c.improvement, *c.interval)
    assert table.rows[0].cells[2] == wording.improvement(c.improvement, *c.interval)


@pytest.mark.parametrize(
    ("change", "verdict", "note"),
    [
        ({"parts": ()}, "no interval", "no interval, since farl has no statistics of it in examples.parquet"),
        ({"seeds": (0, 1)}, "not known", "other label subsets than random initialisation"),
        ({"labels": 41}, "not known", "other label subsets"),
        ({"dataset_digest": "a"}, "not known", "other data of the same name"),
        ({"metric": {"call": "x:y"}}, "not known", "another metric"),
        ({"metrics": {"nme_inter_ocular": summary([0.07, 0.08])}}, "better", "is one of them old?"),
    ],
)
def test_why_a_gain_or_its_interval_is_missing_is_said(tmp_path, written, change, verdict, note):
    written.evaluation(tmp_path / "farl", 0.06, checkpoint=written.farl, **change)
    written.evaluation(tmp_path / "random", 0.1, checkpoint="random")
    c = against_random(tmp_path)
    assert c.verdict == verdict
    assert note in c.note


def test_other_test_images_give_no_gain(tmp_path, written):
    _, statistics = written.evaluation(tmp_path / "farl", 0.06, checkpoint=written.farl)
    written.evaluation(tmp_path / "random", 0.1, checkpoint="random")
    written.statistics(tmp_path / "farl", (0, 1, 2), statistics, ids=[f"other_{i}" for i in range(written.images)])
    lines = lines_in(tmp_path)
    c = comparison.compare(*lines)
    assert "tested on other images or units of them than" in c.note
    table = comparison.result_tables(lines, [c])[1]
    assert (table.rows[0].interval, table.notes) == (None, (f"{FARL}: {c.note}.",))


def test_all_metrics_stand_behind(runs):
    lines = lines_in(runs / "parsing")
    every = comparison.result_tables(lines, [])[-1]
    results = json.loads((runs / "parsing/farl/results.json").read_text())
    assert every.folded
    assert [row.cells[0] for row in every.rows][3:5] == ["F1 background", "F1 skin"]
    assert every.rows[4].cells[1] == f"{100 * results['metrics']['f1_skin']['mean']:.2f}"


def test_a_difference_is_that_of_the_metric_itself(runs):
    """The improvement is turned so that above 0 is better; the difference is not."""
    for task in ("landmarks/0.1", "parsing"):
        farl, *_, random = (line for line in lines_in(runs / task) if line.source == "encoder")
        c = comparison.full_comparison(farl, random)
        value, low, high = c.difference
        assert value == pytest.approx(farl.mean - random.mean)
        assert low < value < high
        turn = -1 if task.startswith("landmarks") else 1
        assert sorted(turn * x for x in (low, high)) == pytest.approx(c.interval)


def test_a_full_comparison_needs_an_interval(tmp_path, written):
    written.evaluation(tmp_path / "farl", 0.06, checkpoint=written.farl, parts=())
    written.evaluation(tmp_path / "random", 0.1, checkpoint="random")
    with pytest.raises(ValueError, match=r"no statistics of it in examples\.parquet; remove .*farl or .*random"):
        comparison.full_comparison(*lines_in(tmp_path))
    written.evaluation(tmp_path / "other", 0.1, checkpoint="random", seeds=(0, 1))
    farl, other = lines_in(tmp_path / "farl") + lines_in(tmp_path / "other")
    assert all(math.isnan(x) for x in comparison.compare(farl, other).difference)


def test_an_interval_without_ends_is_none(runs):
    c = against_random(runs)
    assert c._replace(interval=(math.nan, math.nan), improvement=0.1).verdict == "no interval"
    assert c._replace(interval=(math.nan, math.nan), improvement=math.nan).verdict == "not known"
