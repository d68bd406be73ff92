"""What the devices of a compiled program send each other, read from its text."""

import math
import re
from collections import Counter

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
HEAD = re.compile(r"^(ENTRY )?%?([\w.-]+) \(.*\{$")
USED = re.compile(rf"= (\S.*?) ({'|'.join(KINDS)})(-start)?\(")
CHANNEL = re.compile(r"channel_id=\d+")
METADATA = re.compile(r"metadata=\{[^}]*\}")
CALLED = re.compile(r"(?:calls|body|true_computation|false_computation)=%?([\w.-]+)")
BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
CONDITION = re.compile(r" while\(.*condition=%?([\w.-]+)")
CONSTANT = re.compile(r"%?([\w.-]+) = s32\S* constant\((\d+)\)")
ARRAY = re.compile(r"\b(pred|[a-z]+\d+)\w*\[([\d,]*)\]")


def collective_bytes(program: str) -> dict[str, int]:
    """Bytes of the results of a program's collectives on each device, by kind.

    The result of an all-gather is the whole, that of a reduce-scatter the part. The body of a loop counts as often as
    it runs, or once if neither the loop nor its condition says how often; of a branch, all alternatives count. What is
    taken apart into a start, a middle and an end, which are computations of one channel and origin, counts once.

    Args:
        program: the text of an optimised HLO module.
    """
    computations: dict[str, list[str]] = {}
    lines: list[str] = []
    entry = ""
    for line in program.splitlines():
        if head := HEAD.match(line):
            lines = computations[head[2]] = []
            entry = head[2] if head[1] else entry
        lines.append(line)
    seen: set[tuple[str, ...]] = set()
    own = {name: collectives(lines, seen) for name, lines in computations.items()}

    def total(name: str) -> Counter[str]:
        found = Counter(own.get(name, {}))
        for line in computations.get(name, ()):
            called = [*CALLED.findall(line), *(n.strip(" %") for b in BRANCHES.findall(line) for n in b.split(","))]
            for inner in called:
                for kind, count in total(inner).items():
                    found[kind] += trips(line, computations) * count
        return found

    return dict(total(entry))


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
        sizes = [
            math.prod(map(int, filter(None, dims.split(",")))) * width(kind) for kind, dims in ARRAY.findall(used[1])
        ]
        # An asynchronous all-gather or permute shows operands beside results, which are at least as large.
        shows_both = used[3] and used[2] in ("all-gather", "collective-permute")
        found[used[2]] += max(sizes, default=0) if shows_both else sum(sizes)
    seen |= here
    return found


def width(kind: str) -> int:
    """Bytes of an element of a type of HLO, such as bf16; types below a byte take one."""
    bits = re.search(r"\d+", kind)
    return max(int(bits[0]) // 8, 1) if bits else 1


def trips(line: str, computations: dict[str, list[str]]) -> int:
    """How often the computations that a line names run: of a loop that counts up from zero to a constant, its end."""
    if known := TRIPS.search(line):
        return int(known[1])
    if not (loop := CONDITION.search(line)):
        return 1
    condition = "\n".join(computations.get(loop[1], ()))
    constants = dict(CONSTANT.findall(condition))
    compared = re.search(r" compare\(([^)]*)\), direction=LT", condition)
    ends = (
        [constants[name] for name in re.findall(r"%?([\w.-]+)", compared[1]) if name in constants] if compared else []
    )
    return int(ends[0]) if len(ends) == 1 else 1
