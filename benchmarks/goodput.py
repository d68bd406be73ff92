"""Estimate the share of wall time that a run on many hosts spends on steps that count, and how often it should save.

python benchmarks/goodput.py [--hosts 256] [--host_hours 1000,6300,26000] [--stall 0.27,2,10] [--write 30]
    [--restart 311]

A simulation, event by event: steps, saves that hold the run up and are whole some time later, and failures of single
hosts, independent and without memory, each of which ends the run everywhere. The run then takes some time to its next
step, fails as easily meanwhile, and goes on from the newest whole save. Nothing else takes time.

Measured are the first stall and the start with compiled programs cached (`benchmarks/restart.py`: a small network, one
machine); the time in which the other hosts end is a bound (`tests/faults/test_hosts.py`). The rate of failures, the
time for hosts to be there again, and that to write a save are stated, and so are the other stalls. The best interval is
one of a grid whose neighbours differ by 19 %. Beside it stand those of Young and of Daly.

Source: Young 1974 and Daly 2006 (doi 10.1016/j.future.2004.11.016), the higher-order formula; both are recalled.
"""

import argparse
import math
import random
from typing import NamedTuple

START = 11.23  # seconds from the start of the processes to the next line of the log; RESULTS.md
NOTICED = 180.0  # seconds within which the other hosts end once one is lost
SCHEDULED = 120.0  # seconds until hosts are there again
STALLS = (0.27, 2.0, 10.0)  # seconds for which a save holds the run up; the first is that of RESULTS.md
WRITE = 30.0  # seconds from then on until a save is whole
HOST_HOURS = (1000.0, 6300.0, 26_000.0)  # between failures of a host; 419 in 54 days of 2,048 hosts are recalled
DEFAULT = 30 * 60  # seconds between saves, as configs have it
STARTS = 1000  # of a simulation
GRID = [2 ** (power / 4) for power in range(-8, 9)]  # intervals to try, in those of Daly


class Machine(NamedTuple):
    """What a run meets with, in seconds."""

    between_failures: float  # mean, of all hosts together
    stall: float  # for which a save holds the run up
    write: float  # from then on until it is whole
    restart: float  # from a failure to the next step


def goodput(machine: Machine, interval: float, *, starts: int = STARTS, seed: int = 0) -> float:
    """The share of wall time in steps that count, if `interval` seconds of steps lie between saves.

    A save that is due waits, as does the run, until the one before is whole. Equal seeds give equal failures.
    """
    rng = random.Random(seed)
    counted = wall = 0.0
    for _ in range(starts):
        failure = rng.expovariate(1 / machine.between_failures)  # after the start; hosts have no memory
        clock, steps, kept, whole = machine.restart, 0.0, 0.0, 0.0
        while clock < failure:
            clock, steps = clock + interval, steps + interval
            clock = max(clock, whole) + machine.stall
            whole = clock + machine.write
            if whole <= failure:
                kept = steps
        counted, wall = counted + kept, wall + failure
    return counted / wall


def best(machine: Machine) -> tuple[float, float]:
    """The interval of the grid with the highest goodput, and that goodput."""
    found = [(goodput(machine, factor * daly(machine)), factor * daly(machine)) for factor in GRID]
    value, interval = max(found)
    return interval, value


def young(machine: Machine) -> float:
    """The interval that loses least time, to first order."""
    return math.sqrt(2 * machine.stall * machine.between_failures)


def daly(machine: Machine) -> float:
    """The interval that loses least time, to higher order."""
    ratio = machine.stall / (2 * machine.between_failures)
    if ratio >= 1:
        return machine.between_failures
    return young(machine) * (1 + math.sqrt(ratio) / 3 + ratio / 9) - machine.stall


def numbers(text: str) -> list[float]:
    """Numbers between commas."""
    return [float(each) for each in text.split(",")]


def spelt(values: tuple[float, ...]) -> str:
    """Numbers as `numbers` reads them."""
    return ",".join(f"{value:g}" for value in values)


def main() -> None:
    """Print a row for each rate of failures and each stall."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--hosts", type=int, default=256)
    parser.add_argument("--host_hours", type=numbers, default=spelt(HOST_HOURS), help="between failures of one host")
    parser.add_argument("--stall", type=numbers, default=spelt(STALLS), help="seconds for which a save holds steps up")
    parser.add_argument("--write", type=float, default=WRITE, help="seconds from then on until a save is whole")
    parser.add_argument(
        "--restart", type=float, default=NOTICED + SCHEDULED + START, help="seconds from a failure to the next step"
    )
    arguments = parser.parse_args()
    print(
        f"{arguments.hosts} hosts; a save is whole {arguments.write:g} s after it held the run up; from a failure to "
        f"the next step {arguments.restart:.0f} s; {STARTS:,} starts for each number\n"
    )
    print(
        "| hours between failures of a host, of all | stall, s | best interval | Young | Daly | goodput | at 30 min |"
    )
    print("|---|---|---|---|---|---|---|")
    for hours in arguments.host_hours:
        for stall in arguments.stall:
            machine = Machine(3600 * hours / arguments.hosts, stall, arguments.write, arguments.restart)
            interval, value = best(machine)
            times = " | ".join(f"{seconds / 60:.1f} min" for seconds in (interval, young(machine), daly(machine)))
            print(
                f"| {hours:,.0f}, {hours / arguments.hosts:.1f} | {stall:g} | {times} | {value:.2%} | "
                f"{goodput(machine, DEFAULT):.2%} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
