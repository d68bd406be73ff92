"""The text of a compiled program, as XLA prints it: its computations, and how often each of them runs."""

import math
import re
from collections import Counter
from collections.abc import Callable

HEAD = re.compile(r"^(ENTRY )?%?([\w.-]+) \(.*\{$")
CALLED = re.compile(r"(?:calls|body|to_apply|true_computation|false_computation)=%?([\w.-]+)")
BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
CONDITION = re.compile(r" while\(.*condition=%?([\w.-]+)")
CONSTANT = re.compile(r"%?([\w.-]+) = s32\S* constant\((\d+)\)")


def summed(program: str, counted: Callable[[list[str]], Counter[str]]) -> Counter[str]:
    """The sum over all computations of a program of what is counted in the lines of each, as often as it runs.

    The body of a loop counts as often as it runs, or once if neither the loop nor its condition says how often; of a
    branch, all alternatives count.

    Args:
        program: the text of an optimised HLO module.
        counted: what the lines of a computation hold themselves, without those that they call; called once for each.
    """
    computations: dict[str, list[str]] = {}
    lines: list[str] = []
    entry = ""
    for line in program.splitlines():
        if head := HEAD.match(line):
            lines = computations[head[2]] = []
            entry = head[2] if head[1] else entry
        lines.append(line)
    own = {name: counted(lines) for name, lines in computations.items()}
    totals: dict[str, Counter[str]] = {}

    def total(name: str) -> Counter[str]:
        if name not in totals:
            found = Counter(own.get(name, {}))
            for line in computations.get(name, ()):
                called = [*CALLED.findall(line), *(n.strip(" %") for b in BRANCHES.findall(line) for n in b.split(","))]
                for inner in called:
                    for kind, count in total(inner).items():
                        found[kind] += trips(line, computations) * count
            totals[name] = found
        return totals[name]

    return total(entry)


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


def extent(dimensions: str) -> int:
    """The number of elements of an array whose dimensions are written as in bf16[64,512]."""
    return math.prod(map(int, filter(None, dimensions.split(","))))
