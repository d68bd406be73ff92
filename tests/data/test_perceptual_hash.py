import io

import numpy as np
import pytest
from PIL import Image

from facerep_jax.data.perceptual_hash import FARTHEST, first_of_alike, grey_of, hash_of, nearest_views, views_of
from tests.data.laion import picture


@pytest.mark.parametrize("distance", range(FARTHEST + 1))
def test_the_first_of_alike_images_stays(distance):
    """Compared with the definition, pair by pair."""
    rng = np.random.default_rng(distance)
    centres = rng.integers(0, 2**63, 40).astype(np.uint64)
    flips = np.array([sum(1 << int(b) for b in rng.choice(64, rng.integers(0, 6), replace=False)) for _ in range(400)])
    hashes = rng.choice(centres, 400) ^ flips.astype(np.uint64)
    kept: list[int] = []
    for i, value in enumerate(hashes.tolist()):
        if all((value ^ int(hashes[j])).bit_count() > distance for j in kept):
            kept.append(i)
    np.testing.assert_array_equal(np.flatnonzero(first_of_alike(hashes, distance)), kept)
    assert 40 < len(kept) < 400
    assert len(first_of_alike(hashes[:0], distance)) == 0


def test_a_hash_is_the_grid_of_what_is_darker_than_its_right_neighbour():
    cells = np.arange(72, dtype=np.float32).reshape(8, 9)
    cells[3, 4] = 200
    bits = (cells[:, 1:] > cells[:, :-1]).ravel()
    grey = np.kron(cells, np.ones((9, 8), np.float32))
    assert hash_of(grey) == int("".join("01"[int(bit)] for bit in bits), 2)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_grey_is_that_of_the_whole_image(kind):
    data = picture(1, size=(500, 300), kind=kind)
    whole = Image.open(io.BytesIO(data)).convert("L").resize((64, 64), Image.Resampling.BOX)
    np.testing.assert_allclose(grey_of(data), np.asarray(whole, np.float32), atol=6)


def test_views_are_compared_with_the_whole_of_the_other():
    rng = np.random.default_rng(0)
    one, other = (rng.integers(0, 2**63, (3, 5, 4)).astype(np.uint64) for _ in range(2))
    other[2, 4] = one[1, 0]
    other[0, 0] = one[2, 3]
    bits = nearest_views(one, other)
    assert bits[1, 2] == bits[2, 0] == 0
    by_hand = min(
        *(sum((int(a) ^ int(b)).bit_count() for a, b in zip(one[0, 0], view, strict=True)) for view in other[1]),
        *(sum((int(a) ^ int(b)).bit_count() for a, b in zip(view, other[1, 0], strict=True)) for view in one[0]),
    )
    assert bits[0, 1] == by_hand
    assert views_of(rng.uniform(0, 255, (64, 64)).astype(np.float32)).shape == (26, 4)
