"""Weak scaling without the machines: what one device computes, sends and holds in a step as devices are added.

python benchmarks/scaling.py [--objectives farl,mcf] [--local_batch 16] [--devices 1,2,4,8] [--processes 2,4]
    [--json FILE]

For each objective the real step of its config's `smoke` variant is compiled, replicated, for 1 to 8 simulated CPU
devices with the same number of images on each, and for devices of as many real processes, which meet over loopback.
Nothing is run: operations, bytes and temporaries are read from the compiled program of one device. Operations are those
of matrix products and convolutions, bytes those of the results of collectives.

A slope, in brackets, is the exponent p of the best fit value ~ devices^p over counts above one, since a program for
one device is optimised otherwise: 0 if a device does the same however many there are, 1 if it does twice as much among
twice as many.
The networks are tiny, so that of the figures the slopes alone say something of large runs, and these less than they
would there: what grows with the devices is small beside what a tiny network computes, too. `--args` compiles others.
"""

import argparse
import json
import math
import os
import runpy
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

CONFIGS = Path(__file__).parents[1] / "configs" / "pretrain"
OBJECTIVES = ("byol", "dino", "dvae", "farl", "mae", "mcf", "moco", "simsiam", "supervised", "swav", "swav_queue")
QUICK = {"xla_backend_optimization_level": 0, "xla_cpu_parallel_codegen_split_count": 1}  # nothing is run
CHILD = "FACEREP_SCALING"  # the variable that tells a process what to compile


def compiled(objective: str, args: str, local_batch: int, devices: int) -> dict[str, Any]:
    """What one device does in a step that is compiled for the first devices of all processes."""
    import jax

    from facerep_jax.pretrain import assemble
    from facerep_jax.train.collectives import collective_bytes
    from facerep_jax.train.flops import of_jaxpr, of_program

    config = runpy.run_path(str(CONFIGS / f"{objective}.py"))["get_config"](args)
    config.data.batch_size = local_batch * devices
    parts = assemble(config, jax.devices()[:devices])
    parts.stream.close()
    traced = parts.traced()
    program = traced.lower().compile(compiler_options=QUICK)
    text = program.as_text()
    return {
        "devices": devices,
        "flops": of_program(text),
        "analytic": of_jaxpr(traced.jaxpr.jaxpr) / devices,
        "bytes": collective_bytes(text),
        "temporaries": program.memory_analysis().temp_size_in_bytes,
    }


def in_processes(processes: int, counts: list[int], **order: Any) -> list[dict[str, Any]]:
    """What `compiled` finds for each count of devices in new processes, of which the first compiles."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    xla = " ".join(flag for flag in os.environ.get("XLA_FLAGS", "").split() if "device_count" not in flag)
    started = []
    for index in range(processes):
        own = json.dumps(order | dict(counts=counts, address=address, processes=processes, process=index))
        env = {**os.environ, CHILD: own, "XLA_FLAGS": xla, "JAX_PLATFORMS": "cpu"}
        env["JAX_NUM_CPU_DEVICES"] = str(max(counts) // processes)
        started.append(subprocess.Popen([sys.executable, __file__], env=env, stdout=subprocess.PIPE, text=True))
    said = [process.communicate()[0] for process in started]
    if any(process.returncode for process in started):
        raise SystemExit(f"{order}: one of {processes} processes ended with an error")
    lines = [line for line in said[0].splitlines() if line.startswith("{")]  # gloo prints others
    return [json.loads(line) | {"processes": processes} for line in lines]


def serve(counts: list[int], address: str, processes: int, process: int, **order: Any) -> None:
    """Join the other processes and, in the first of them, compile and print what was found."""
    from facerep_jax.train import distributed

    if processes > 1:
        distributed.initialize(address, processes, process)
    if process == 0:
        for devices in counts:
            print(json.dumps(compiled(devices=devices, **order)), flush=True)
    if processes > 1:
        distributed.together("the end")


def slope(points: Iterable[tuple[float, float]]) -> float:
    """The exponent p of the best fit y ~ x^p by least squares of logarithms; NaN if it is not known."""
    logs = [(math.log(x), math.log(y)) for x, y in points if y > 0]
    if len(logs) < 2:
        return math.nan
    mean_x, mean_y = (sum(values) / len(logs) for values in zip(*logs, strict=True))
    return sum((x - mean_x) * (y - mean_y) for x, y in logs) / sum((x - mean_x) ** 2 for x, _ in logs)


def row(objective: str, found: list[Mapping[str, Any]]) -> str:
    """A line of the table: figures at the most devices, slopes over all of one process, and what processes change."""
    alone = [each for each in found if each["processes"] == 1]
    most = alone[-1]

    def sent(each: Mapping[str, Any], *kinds: str) -> float:
        return sum(each["bytes"].get(kind, 0) for kind in kinds or each["bytes"])

    def exponent(of: Callable[[Mapping[str, Any]], float]) -> str:
        value = slope((each["devices"], of(each)) for each in alone if each["devices"] > 1)
        return "" if math.isnan(value) else f" ({value:+.3f})"

    others = [kind for kind in most["bytes"] if kind not in ("all-reduce", "all-gather")]
    by_devices = {each["devices"]: each for each in alone}
    apart = [
        each
        for each in found
        if each["processes"] > 1
        and any(each[name] != by_devices[each["devices"]][name] for name in ("flops", "bytes", "temporaries"))
    ]
    counts = [str(each["processes"]) for each in found if each["processes"] > 1]
    same = f"{', '.join(counts)}: " + ("equal" if not apart else "differs") if counts else "not tried"
    cells = [
        objective,
        f"{alone[0]['flops'] / 1e6:,.1f}, {most['flops'] / 1e6:,.1f}{exponent(lambda each: each['flops'])}",
        f"{most['flops'] / most['analytic']:.2f}",
        *(
            f"{sent(most, kind) / 1e6:.3f}{exponent(lambda each, kind=kind: sent(each, kind))}"
            for kind in ("all-reduce", "all-gather")
        ),
        f"{sent(most, *others) / 1e6:.3f}{exponent(lambda each: sent(each, *others))}" if others else "0",
        f"{most['temporaries'] / 1e6:.1f}{exponent(lambda each: each['temporaries'])}",
        same,
    ]
    return f"| {' | '.join(cells)} |"


def heading(devices: list[int]) -> str:
    """The head of the table."""
    cells = [
        "objective",
        f"MFLOP on 1 and {devices[-1]} devices",
        "of the trace's",
        f"MB of all-reduce on {devices[-1]}",
        "of all-gather",
        "of others",
        "MB of temporaries",
        "real processes",
    ]
    return f"| {' | '.join(cells)} |\n|{'---|' * len(cells)}"


def numbers(text: str) -> list[int]:
    """Whole numbers between commas, in order."""
    return sorted(int(each) for each in text.split(",") if each)


def main() -> None:
    """Compile all that is asked for, and print a line for each objective as soon as it is done."""
    if order := os.environ.get(CHILD):
        serve(**json.loads(order))
        return
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--objectives", default=",".join(OBJECTIVES))
    parser.add_argument("--args", default="smoke", help="of the configs, after the colon")
    parser.add_argument("--local_batch", type=int, default=16)
    parser.add_argument("--devices", type=numbers, default="1,2,4,8", help="of one process")
    parser.add_argument("--processes", type=numbers, default="2,4", help="with one device each; also counts of devices")
    parser.add_argument("--json", type=Path, help="a file for all that was found")
    arguments = parser.parse_args()
    print(heading(arguments.devices), flush=True)
    everything = {}
    for objective in arguments.objectives.split(","):
        order = dict(objective=objective, args=arguments.args, local_batch=arguments.local_batch)
        found = in_processes(1, arguments.devices, **order)
        for processes in arguments.processes:
            found += in_processes(processes, [processes], **order)
        everything[objective] = found
        print(row(objective, found), flush=True)
        if arguments.json:
            arguments.json.write_text(json.dumps(everything, indent=1) + "\n")


if __name__ == "__main__":
    main()
