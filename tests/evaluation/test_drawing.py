import numpy as np
import pytest

from facerep_jax.data.pose import rotations
from facerep_jax.evaluation import drawing

FACE = np.full((20, 20, 3), 128, np.uint8)


def places(picture, colour):
    """Rows and columns of the pixels of a colour."""
    return np.nonzero((np.asarray(picture) == np.array(colour)).all(-1))


def test_bars_are_as_high_as_numbers_and_none_is_drawn_of_what_is_not_known():
    picture = drawing.with_bars(FACE, np.array([5.0, np.nan]), np.array([2.5, 0]), (0.0, 5.0), 8)
    assert picture.size == (160, 200)
    rows, columns = places(picture, drawing.TRUTH)
    assert (columns < 80).all()  # the second is not known
    high = np.ptp(rows)
    rows, columns = places(picture, drawing.PREDICTION)
    assert np.ptp(rows[columns < 80]) == np.round(high / 2)
    assert 0 <= np.ptp(rows[columns >= 80]) <= 2
    assert (rows >= 160).all()  # none is on the face


def test_text_stands_below_the_face():
    picture = drawing.with_text(FACE, "31", "47", 8)
    true, predicted = (places(picture, colour)[0] for colour in (drawing.TRUTH, drawing.PREDICTION))
    assert true.size
    assert predicted.size
    assert 160 <= true.min() < true.max() < predicted.max() < 200


def test_axes_point_where_a_head_looks():
    """A face that is turned by 60 degrees to the right of the image, and one that is not known."""
    turned = (rotations(np.array([60.0, 0, 0])), drawing.TRUTH)
    picture = drawing.with_axes(FACE, [turned, (np.full((3, 3), np.nan), drawing.PREDICTION)], 8)
    rows, columns = places(picture, drawing.TRUTH)
    assert columns.max() - 80 == pytest.approx(0.3 * 160 * np.sin(np.pi / 3), abs=1)
    assert rows.max() > 120  # down
    assert not places(picture, drawing.PREDICTION)[0].size
