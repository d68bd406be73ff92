"""Chips that a run can be planned for: how much they hold, and how fast they read, compute and talk.

All figures are recalled from the makers' data sheets, not verified; peak operations are those of `account.PEAK_FLOPS`.
"""

import math
import re
from typing import NamedTuple

from facerep_jax.suggestions import nearest
from facerep_jax.train.account import peak_flops


class Chip(NamedTuple):
    """One chip, as one device of jax."""

    kind: str  # as jax names the device
    memory: float  # bytes
    bandwidth: float  # bytes per second, of that memory
    network: float  # bytes per second that one chip sends to the others of its host or slice
    beyond: float  # likewise, if chips of several hosts belong to the run
    of_host: int  # chips of one host
    config: str = ""  # of libtpu: the name under which two cores are one device

    @property
    def tpu(self) -> bool:
        return self.kind.startswith("TPU")

    @property
    def peak(self) -> float:
        """Operations per second in bfloat16."""
        return peak_flops(self.kind)


CHIPS = {
    "v4": Chip("TPU v4", 32 * 2**30, 1228e9, 300e9, 300e9, 4, "megacore"),
    "v5e": Chip("TPU v5 lite", 16 * 2**30, 819e9, 200e9, 200e9, 4),
    "v5p": Chip("TPU v5", 95 * 2**30, 2765e9, 600e9, 600e9, 4, "megacore"),
    "v6e": Chip("TPU v6 lite", 32 * 2**30, 1640e9, 448e9, 448e9, 4),
    "A100": Chip("NVIDIA A100", 80e9, 2039e9, 300e9, 25e9, 8),
    "H100": Chip("NVIDIA H100", 80e9, 3350e9, 450e9, 50e9, 8),
    "H200": Chip("NVIDIA H200", 141e9, 4800e9, 450e9, 50e9, 8),
    "B200": Chip("NVIDIA B200", 180e9, 8000e9, 900e9, 50e9, 8),
}


def topology(text: str) -> tuple[Chip, int]:
    """The chip and the number of chips that CHIP:AxB[xC] names, such as v5e:16x16 or H100:64.

    Raises ValueError if the chip is not known or the form is another.
    """
    name, _, shape = text.partition(":")
    if name not in CHIPS:
        raise ValueError(f"--topology {text}: no chip {name!r}; {nearest(name, CHIPS)}")
    if not re.fullmatch(r"[1-9]\d*(x[1-9]\d*){0,2}", shape) or (CHIPS[name].tpu and "x" not in shape):
        raise ValueError(f"--topology is CHIP:AxB[xC], such as v5e:16x16, v4:2x4x4 or H100:64, not {text}")
    return CHIPS[name], math.prod(map(int, shape.split("x")))
