"""Which stages of an encoder a head reads: shares of its depth, so that one config serves encoders of any depth."""

from collections.abc import Sequence

QUARTERS = (0.25, 0.5, 0.75, 1.0)
FARL = (1 / 3, 1 / 2, 2 / 3, 1.0)  # of FaRL's heads, see `stages_at`


def stages_at(shares: Sequence[float], stages: int) -> tuple[int, ...]:
    """The stages, from 0, that end at these shares of an encoder of so many stages.

    `FARL` gives 3, 5, 7, 11 of 12 and 7, 11, 15, 23 of 24. Changed: of 32, FaRL takes 8, 14, 20, 31, and this is
    10, 15, 20, 31.

    Raises:
        ValueError: a share is not above 0 and at most 1.
    """
    if wrong := [share for share in shares if not 0 < share <= 1]:
        raise ValueError(f"taps are shares of the encoder's depth, above 0 and at most 1, not {wrong[0]}")
    return tuple(max(round(stages * share), 1) - 1 for share in shares)
