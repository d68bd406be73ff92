"""Charts are SVG elements with names of their own, the same for the same numbers, and say what was averaged."""

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from facerep_jax.reporting import charts
from facerep_jax.reporting.charts import Series

STEPS = np.arange(4001)
GAPPED = np.where(STEPS == 7, np.nan, STEPS.astype(float))
SOME = [
    Series("mean shape", "baseline", [1, 100], [16, 15], [16, 15], [16, 15]),
    Series("farl", "encoder", [1, 10, 100], [9, 7, 6], [8.5, 6.6, np.nan], [9.5, 7.4, np.nan]),
    Series("random", "random", [10], [11], [10.6], [11.4]),
]
TICKS = {1.0: "1%", 10.0: "10%", 100.0: "100%"}


def paths(picture):
    return [*ET.fromstring(picture.svg).iter("path")]


def curve(x, y, **keywords):
    return charts.curve(x, y, caption="loss", y_label="nats", alt="a loss", **keywords)


def lines(series, **keywords):
    return charts.line_chart(series, x_label="x", y_label="y", caption="a caption", alt="an alt", **keywords)


def test_long_curves_are_averaged_and_gaps_stay():
    steps, values = charts.neighbour_means(STEPS, GAPPED)
    assert len(steps) == charts.POINTS
    assert np.isnan(values).sum() == 1
    np.testing.assert_allclose(values[1:], steps[1:])
    np.testing.assert_array_equal(charts.neighbour_means(STEPS[:400], GAPPED[:400]), [STEPS[:400], GAPPED[:400]])
    assert curve(STEPS, GAPPED).caption == "loss; means over 10 logged steps"


def test_a_second_curve_is_in_the_key():
    few = STEPS[:50], GAPPED[:50]
    beside = curve(*few, beside=("entropy", STEPS[:50], np.full(50, 6.3)))
    assert [name for _, name in beside.key] == ["logged", "entropy"]
    assert curve(*few).key == ()
    assert len(paths(beside)) > len(paths(curve(*few))) > 0


@pytest.mark.parametrize("values", [[0.0], [np.nan, np.nan], [2.0, 1.0]])
@pytest.mark.parametrize("from_zero", [False, True])
def test_a_curve_of_anything_can_be_drawn(values, from_zero):
    assert paths(curve(np.arange(len(values)), np.array(values), from_zero=from_zero))


def test_lines_with_bands_and_their_key():
    picture = lines(SOME, ticks=TICKS)
    assert [name for _, name in picture.key] == ["farl", "random", "mean shape"]  # encoders first
    assert len(paths(picture)) > len(paths(lines(SOME[1:2], ticks=TICKS))) > 0
    assert {"1%", "10%", "100%"} <= {text.text for text in ET.fromstring(picture.svg).iter("text")}
    assert lines(SOME, ticks=TICKS) == picture  # the same numbers, the same text


def test_no_two_lines_look_alike():
    kinds = ["encoder"] * 6 + ["random"] * 3 + ["baseline"] * 3
    found = charts.looks(kinds)
    assert len(set(found)) == len(found)
    shapes = [(look.dash, look.marker) for look in found]
    assert len(set(shapes)) == len(shapes)  # nor without their colours


def test_names_in_two_charts_do_not_clash_and_texts_are_texts():
    one, other = lines(SOME[1:2]), lines(SOME[1:2], limits=((0.0, 50.0), (0.0, 10.0)))
    ids = [set(re.findall(r'id="([^"]+)"', p.svg)) for p in (one, other)]
    assert ids[0]
    assert not ids[0] & ids[1]
    for picture, own in zip((one, other), ids, strict=True):
        assert set(re.findall(r'(?:url\(#|href="#)([^")]+)', picture.svg)) <= own
        assert "<style" not in picture.svg
        assert "xmlns" not in picture.svg


def test_names_with_signs_are_names():
    picture = lines([SOME[1]._replace(name="$a_b$ <i>")])
    assert [name for _, name in picture.key] == ["$a_b$ <i>"]
    assert "&lt;&quot;" in charts.line_chart([SOME[1]], x_label="$x$ <", y_label="y", caption="", alt='<"').svg
