"""What the devices of a compiled program send each other, read from its text."""

import re
from collections import Counter

from facerep_jax.train.program import extent, summed

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
USED = re.compile(rf"= (\S.*?) ({'|'.join(KINDS)})(-start)?\(")
CHANNEL = re.compile(r"channel_id=\d+")
METADATA = re.compile(r"metadata=\{[^}]*\}")
ARRAY = re.compile(r"\b(pred|[a-z]+\d+)\w*\[([\d,]*)\]")


def collective_bytes(program: str) -> dict[str, int]:
    """Bytes of the results of a program's collectives on each device, by kind.

    The result of an all-gather is the whole, that of a reduce-scatter the part. The body of a loop counts as often as
    it runs, or once if neither the loop nor its condition says how often; of a branch, all alternatives count. What is
    taken apart into a start, a middle and an end, which are computations of one channel and origin, counts once.

    Args:
        program: the text of an optimised HLO module.
    """
    seen: set[tuple[str, ...]] = set()
    return dict(summed(program, lambda lines: collectives(lines, seen)))


def collectives(lines: list[str], seen: set[tuple[str, ...]]) -> Counter[str]:
    """Bytes of the results of one computation's own collectives, by kind, without those that others have shown."""
    found: Counter[str] = Counter()
    here = set()
    for line in lines:
        # A channel alone does not tell them apart: all of a `shard_map` have the same.
        origin = (*CHANNEL.findall(line), *METADATA.findall(line))
        if not (used := USED.search(line)) or origin in seen:
            continue
        here.update([origin] if CHANNEL.search(line) else [])
        sizes = [extent(dims) * width(kind) for kind, dims in ARRAY.findall(used[1])]
        # An asynchronous all-gather or permute shows operands beside results, which are at least as large.
        shows_both = used[3] and used[2] in ("all-gather", "collective-permute")
        found[used[2]] += max(sizes, default=0) if shows_both else sum(sizes)
    seen |= here
    return found


def width(kind: str) -> int:
    """Bytes of an element of a type of HLO, such as bf16; types below a byte take one."""
    bits = re.search(r"\d+", kind)
    return max(int(bits[0]) // 8, 1) if bits else 1
