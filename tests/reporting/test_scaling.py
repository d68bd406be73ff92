"""Curves of a study: which scores they hold, the law of their errors, and how they are shown."""

import numpy as np
import pytest
from ml_collections import ConfigDict
from scipy import stats

from facerep_jax.evaluation.results import PERCENT
from facerep_jax.reporting import scaling, wording
from facerep_jax.reporting.page import html, markdown_block
from facerep_jax.reporting.scores import Score


def score(evaluation, encoder, values, lower=True, fraction=0.1):
    metric = "nme_box" if lower else "accuracy_mean"
    return Score(evaluation, fraction, encoder, 40, metric, tuple(values), 0.001, {}, PERCENT, lower)


SIZES = (100, 1000, 10_000)
ERRORS = {size: 0.5 * size**-0.25 for size in SIZES}
FOUND = [
    *(score("landmarks", f"swav_{size}", (0.99 * e, 1.01 * e)) for size, e in ERRORS.items()),
    *(score("attributes", f"swav_{size}", (1 - 0.99 * e, 1 - 1.01 * e), False) for size, e in ERRORS.items()),
    score("landmarks", "random", (0.2, 0.21)),
    score("landmarks", "swav_100", (0.01, 0.01), fraction=1.0),
]


def config(**changes):
    lines = dict(swav=tuple((size, "landmarks", f"swav_{size}") for size in SIZES))
    curves = dict(landmarks=dict(x="images", lines=lines, levels=("random",)) | changes)
    better = dict(swav=tuple((size, "attributes", f"swav_{size}") for size in SIZES))
    return ConfigDict(dict(curves=curves | dict(attributes=dict(x="images", lines=better))))


def of(curves, chart):
    return next(curve for curve in curves if curve.chart == chart)


def test_curves_hold_the_scores_and_the_law_of_their_errors():
    for curve in scaling.curves_of(config(), FOUND):
        errors = [ERRORS[size] * side for size in SIZES for side in (0.99, 1.01)]
        line = stats.linregress(np.log(np.repeat(SIZES, 2)), np.log(errors))
        assert curve.law.exponent == pytest.approx(-line.slope) == pytest.approx(0.25)
        assert curve.amounts == SIZES
    first = of(scaling.curves_of(config(), FOUND), "landmarks")
    np.testing.assert_allclose(first.means, [*ERRORS.values()])
    assert first.scores[0].fraction == 0.1  # the smallest, where there are several
    np.testing.assert_allclose(first.spreads[0], np.std([0.99 * ERRORS[100], 1.01 * ERRORS[100]], ddof=1))


def test_table_and_page_show_them():
    curves = scaling.curves_of(config(), FOUND)
    text = markdown_block(scaling.law_table(curves))
    far = 100 * 0.5 * 40_000**-0.25
    assert (
        f"| landmarks: swav | 100 to 10000 | nme_box in %: {', '.join(f'{100 * e:.2f}' for e in ERRORS.values())} |"
        in text
    )
    assert f"{far:.2f} [" in text
    assert f"{100 - far:.2f} [" in text  # of what is better the higher it is
    made = html(scaling.page("data_size", config(), FOUND, curves))
    assert "swav, power law" in made
    assert "against images, landmarks" in made
    assert "random" in made


def test_points_are_at_the_least_share_of_labels_in_whatever_order():
    first = [score("landmarks", "swav_100", (0.01, 0.01), fraction=1.0), *FOUND[:-1]]
    assert of(scaling.curves_of(config(), first), "landmarks") == of(scaling.curves_of(config(), FOUND), "landmarks")


def test_errors_that_no_power_law_has_are_shown_without_one():
    none = [score("landmarks", f"swav_{size}", (0.0, 0.1)) for size in SIZES]
    curves = scaling.curves_of(config(), [*none, *FOUND])
    bare = of(curves, "landmarks")
    assert bare.law is None
    assert scaling.to_json([bare])[0]["law"] is None
    assert f"| {wording.NOTHING} |" in markdown_block(scaling.law_table([bare]))
    html(scaling.page("x", config(), FOUND, curves))


def test_a_point_without_a_score_is_named():
    wrong = config(lines=dict(swav=((1, "landmarks", "moco_1"),)))
    with pytest.raises(ValueError, match="curve 'swav' of 'landmarks': 'moco_1' has no score on 'landmarks'"):
        scaling.curves_of(wrong, FOUND)
    assert scaling.curves_of(ConfigDict({}), FOUND) == []
