import pytest

from facerep_jax.models.taps import FARL, QUARTERS, stages_at


def test_the_taps_of_farl():
    assert stages_at(FARL, 12) == (3, 5, 7, 11)
    assert stages_at(FARL, 24) == (7, 11, 15, 23)
    assert stages_at(FARL, 32) == (10, 15, 20, 31)
    assert stages_at(FARL, 4) == (0, 1, 2, 3)


@pytest.mark.parametrize("depth", [4, 12, 24, 32])
def test_quarters_end_a_quarter_of_the_blocks_each(depth):
    assert stages_at(QUARTERS, depth) == tuple(range(depth // 4 - 1, depth, depth // 4))


def test_a_short_encoder_has_its_first_stage():
    assert stages_at((0.1, 1.0), 2) == (0, 1)


@pytest.mark.parametrize("share", [0.0, -0.5, 1.5, 9.0, float("nan")])
def test_what_is_no_share_is_refused(share):
    with pytest.raises(ValueError, match=f"taps are shares of the encoder's depth, above 0 and at most 1, not {share}"):
        stages_at((1.0, share), 4)
