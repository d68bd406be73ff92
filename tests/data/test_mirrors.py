from facerep_jax.data.meta import check_flip
from facerep_jax.data.mirrors import swapping


def test_pairs_change_places_and_others_stay():
    flip = swapping(6, [(0, 5), (1, 3)])
    assert flip == (5, 3, 2, 1, 4, 0)
    check_flip(list(flip), 6)
    assert swapping(3, []) == (0, 1, 2)
