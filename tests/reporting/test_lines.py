"""What a line says of itself, and what lines are called."""

import math

import numpy as np
import pytest

from facerep_jax.evaluation.statistics import resampled, summary
from facerep_jax.reporting import workdirs
from facerep_jax.reporting.lines import PRETRAINED, Line, encoder_names, ordered_lines


def lines_in(folder):
    evaluations, _ = workdirs.read([folder])
    return ordered_lines(evaluations, encoder_names(evaluations))


def test_encoders_of_one_name_are_told_apart(tmp_path, written):
    farl = written.farl
    written.evaluation(tmp_path / "a", 0.06, checkpoint=farl | {"path": "one/farl"})
    written.evaluation(tmp_path / "b", 0.07, checkpoint=farl | {"path": "two/farl"})
    written.evaluation(tmp_path / "c", 0.08, checkpoint=farl | {"path": "two/farl", "digest": "b"})
    written.evaluation(tmp_path / "d", 0.09, checkpoint=farl | {"path": "three/swav", "step": None})
    written.evaluation(tmp_path / "e", 0.05, checkpoint=farl | {"path": "three/swav", "step": None})
    assert [line.name for line in lines_in(tmp_path)] == [
        "one/farl, step 20,000, ema",
        "swav, ema (d)",
        "swav, ema (e)",
        f"two/farl {farl['digest']}, step 20,000, ema",
        "two/farl b, step 20,000, ema",
    ]


def test_equal_baselines_stand_once_and_others_with_their_source(tmp_path, written):
    one = {"mean_shape": 0.2, "linear_pixels": 0.1}
    written.evaluation(tmp_path / "a", 0.06, checkpoint=written.farl, baselines=one)
    written.evaluation(tmp_path / "b", 0.07, checkpoint="random", baselines=one | {"linear_pixels": 0.11})
    lines = lines_in(tmp_path)
    assert [line.name for line in lines][2:] == ["mean shape", "linear pixels (of a)", "linear pixels (of b)"]
    assert [line.kind for line in lines] == ["pre-trained", "random", *["baseline"] * 3]
    assert [line.source for line in lines][2:] == ["mean_shape", "linear_pixels", "linear_pixels"]
    assert lines[3].statistics[0].rows.shape == (3, written.images, 9)


def test_a_line_of_several_evaluations_is_their_mean(tmp_path, written):
    for i, level in enumerate((0.06, 0.07)):
        written.evaluation(tmp_path / f"farl_{i}", level, checkpoint=written.farl)
    evaluations, _ = workdirs.read([tmp_path])
    line = Line("farl", PRETRAINED, evaluations)
    each = [e.results.judged.metrics["nme_inter_ocular"] for e in evaluations]
    assert line.means == tuple(one.mean for one in each)
    assert (line.mean, line.spread) == pytest.approx([np.mean([getattr(x, k) for x in each]) for k in ("mean", "std")])
    rows = np.stack([workdirs.read_statistics(e.folder).rows for e in evaluations])
    want = resampled(rows, lambda s, w: (w @ s)[:, 0] / (w @ s)[:, 3])
    np.testing.assert_allclose(line.bootstrap.values, want.values)
    np.testing.assert_allclose(line.bootstrap.draws, want.draws)


def test_evaluations_of_one_line_share_test_examples(tmp_path, written):
    written.evaluation(tmp_path / "a", 0.06, checkpoint=written.farl)
    _, statistics = written.evaluation(tmp_path / "b", 0.06, checkpoint=written.farl)
    written.statistics(tmp_path / "b", (0, 1, 2), statistics, ids=[f"other_{i}" for i in range(written.images)])
    with pytest.raises(ValueError, match="b has other test examples, units or label subsets than"):
        _ = Line("farl", PRETRAINED, workdirs.read([tmp_path])[0]).statistics


def test_a_headline_that_is_not_defined_is_nan(tmp_path, written):
    undefined = {"nme_inter_ocular": summary([math.nan] * 3)}
    written.evaluation(tmp_path / "a", 0.06, checkpoint=written.farl, metrics=undefined)
    (line,) = lines_in(tmp_path)
    assert math.isnan(line.mean)
    assert line.spread == 0


def test_rows_count_as_often_as_their_weights_say(tmp_path, written):
    written.evaluation(tmp_path / "a", 0.06, checkpoint=written.farl)
    (line,) = lines_in(tmp_path)
    rows = line.statistics[0].rows[0]
    weights = np.zeros((2, len(rows)))
    weights[0, 3], weights[1, [4, 5]] = 1, (1, 3)
    errors = rows[:, 0]
    np.testing.assert_allclose(line.value(rows, weights), [errors[3], (errors[4] + 3 * errors[5]) / 4])
