"""Permutations that say which of several things is which in a mirror, made from what changes places."""

from collections.abc import Iterable


def swapping(count: int, pairs: Iterable[tuple[int, int]]) -> tuple[int, ...]:
    """The permutation of `count` indices in which those of a pair change places, and all others stay."""
    flip = list(range(count))
    for one, other in pairs:
        flip[one], flip[other] = other, one
    return tuple(flip)
