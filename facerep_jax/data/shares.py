"""Splits of sets that were published without any: a name's hash says where it belongs, whatever others there are."""

import hashlib


def check(validation: float, test: float) -> None:
    """Raises ValueError unless both are shares that leave something for training."""
    if not (validation >= 0 and test >= 0 and validation + test < 1):
        raise ValueError(f"validation and test are shares from 0 on, below 1 together, not {validation:g} and {test:g}")


def split_of(name: str, *, validation: float, test: float) -> str:
    """The split of all samples of a name, such as a person's; what is in a share stays there when that grows.

    Args:
        validation, test: shares of the names, in expectation.
    """
    draw = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) / 2**64
    if draw < test:
        return "test"
    return "validation" if draw >= 1 - validation else "train"
