"""Pictures are whole SVG files inside their address, the same for the same numbers, and say what was averaged."""

import base64
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from facerep_jax.evaluation import charts

STEPS = np.arange(4001)
GAPPED = np.where(STEPS == 7, np.nan, STEPS.astype(float))


def drawn(picture):
    """The paths of a picture."""
    kind, _, data = picture.uri.partition(",")
    assert kind == "data:image/svg+xml;base64"
    return [*ET.fromstring(base64.b64decode(data)).iter("{http://www.w3.org/2000/svg}path")]


def test_long_curves_are_averaged_and_gaps_stay():
    steps, values = charts._thinned(STEPS, GAPPED)
    assert len(steps) == charts.POINTS
    assert np.isnan(values).sum() == 1
    np.testing.assert_allclose(values[1:], steps[1:])
    np.testing.assert_array_equal(charts._thinned(STEPS[:400], GAPPED[:400]), [STEPS[:400], GAPPED[:400]])
    assert charts.curve("loss", {"loss": (STEPS, GAPPED)}).caption == "loss; means over 10 logged steps"


def test_the_unigram_entropy_of_a_term_is_beside_its_loss():
    log = STEPS[:50], GAPPED[:50]
    scalars = {"tokens/loss": log, "tokens/unigram": (STEPS[:50], np.full(50, 6.3)), "other/loss": log, "loss": log}
    with_unigram, without = (charts.curve(name, scalars) for name in ("tokens/loss", "other/loss"))
    assert with_unigram.caption == "tokens/loss; dashed: unigram entropy"
    assert (without.caption, charts.curve("loss", scalars).caption) == ("other/loss", "loss")
    assert len(drawn(with_unigram)) > len(drawn(without)) > 0


@pytest.mark.parametrize("values", [[0.0], [np.nan, np.nan], [2.0, 1.0]])
def test_a_curve_of_anything_can_be_drawn(values):
    for name in ("loss", "input_wait"):
        assert drawn(charts.curve(name, {name: (np.arange(len(values)), np.array(values))}))


def test_the_chart_of_fractions():
    series = {
        "mean shape": charts.Series("baseline", [(1, 16, 0), (100, 15, 0)]),
        "farl": charts.Series("encoder", [(1, 9, 0.5), (10, 7, 0.4), (100, 6, np.nan)]),
        "random": charts.Series("random", [(10, 11, 0.4)]),
    }
    picture = charts.fractions(series, "NME (%)", "a caption")
    assert (picture.caption, picture.kind, picture.folded) == ("a caption", "figure", False)
    fewer = charts.fractions({"farl": series["farl"]}, "NME (%)", "a caption")
    assert len(drawn(picture)) > len(drawn(fewer)) > 0
    text = base64.b64decode(picture.uri.partition(",")[2]).decode()
    assert charts.COLOURS[0] in text
    assert charts.GREYS[1] in text
    assert charts.COLOURS[1] not in text  # one encoder, one colour
    assert charts.fractions(series, "NME (%)", "a caption") == picture  # the same numbers, the same bytes
