"""Contact sheets show what they say."""

import numpy as np
import pytest
from PIL import ImageFont

from facerep_jax import pictures


def test_a_name_that_is_too_long_keeps_both_ends():
    font = ImageFont.load_default(pictures.TEXT)
    assert pictures.fitting("1: 5.00% a-1", font, 400) == "1: 5.00% a-1"
    short = pictures.fitting("1: 5.00% a-very-long-name-7", font, 120)
    assert (short[:4], short[-2:]) == ("1: 5", "-7")
    assert font.getlength(short) <= 120


def test_masked_patches_are_striped_where_they_are():
    image = np.full((32, 32, 3), 200, np.uint8)
    hidden = np.zeros((4, 4), bool)
    hidden[1, 2] = True
    found = pictures.masked([{"image": image, "masked": hidden.reshape(-1)}] * 3)["masked"]
    side = (pictures.WIDTH // 4 - pictures.GAP) // 2
    tile = np.asarray(found)[:side, : 2 * side]
    assert (tile[:, :side] == 200).all()
    changed = (tile[:, side:] != 200).all(-1)
    y, x = np.mgrid[0:side, 0:side]
    np.testing.assert_array_equal(changed, (y * 4 // side == 1) & (x * 4 // side == 2))
    assert {tuple(c) for c in tile[:, side:][changed]} == {pictures.HIDDEN, pictures.STRIPES}


@pytest.mark.parametrize(
    "example",
    [
        {"image": np.zeros((8, 8, 3), np.uint8)},
        {"masked": np.zeros(4, bool)},
        {"image": np.zeros((8, 8, 3), np.uint8), "masked": np.zeros(7, bool)},
        {"image": np.zeros((8, 8, 3), np.float32), "masked": np.zeros(4, bool)},
    ],
)
def test_what_has_no_mask_gives_no_sheet(example, tmp_path):
    assert pictures.masked([example]) == {}
    assert pictures.masked([]) == {}
    pictures.save(tmp_path, {})
    assert not [*tmp_path.iterdir()]
