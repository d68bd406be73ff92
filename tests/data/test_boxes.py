import numpy as np
import pytest

from facerep_jax.data import boxes


def test_sides_become_corners_between_pixels():
    assert boxes.from_sides(0.0, 0.0, 10.0, 20.0) == (-0.5, -0.5, 9.5, 19.5)  # of an image of 10 x 20 pixels: all of it
    assert boxes.from_sides(1.0, 1.0, 10.0, 20.0, first=1) == (-0.5, -0.5, 9.5, 19.5)


@pytest.mark.parametrize("sides", [(3, 4, 0, 5), (3, 4, 5, 0), (0, 0, 0, 0), (1, 1, -2, 3)])
def test_a_box_without_pixels_is_not_known(sides):
    assert boxes.from_sides(*map(float, sides)) is None


def test_a_square_around_points():
    points = np.array([[1.2, 5.9], [3.4, 2.1]], np.float32)
    # Corners rounded outwards: x 1 to 4, y 2 to 6, so the centre is (2.5, 4) and the side 4.
    assert boxes.square_around(points) == (0.5, 2.0, 4.5, 6.0)
    assert boxes.square(10.0, 20.0, 3.0) == (7, 17, 13, 23)
