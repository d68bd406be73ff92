"""Say before a launch whether a run fits on chips that are not here, how fast it can be, and what it needs.

facerep plan --config configs/pretrain/farl.py:variant=B/16 --topology v5e:16x16 [--json plan.json]

Chips: v4, v5e, v5p, v6e with the form of their slice; A100, H100, H200, B200 with a number, such as H100:64.
Parameters, optimizer state, operations and memory by kind are exact for the config's step and sharding. The time is
that of a roofline, whose assumptions are printed; nothing was measured on chips. For TPUs the step is compiled for the
slice as well, which takes about a minute and no TPU: that gives all memory of a step, and what chips send each other.
It needs libtpu: pip install 'facerep_jax[tpu]'. The data set need not be there: a drawn face stands in for a record.

The exit status is 0 if the run fits or nothing is known against it, and 1 if it does not.
"""

import importlib.util
import json
import math
import os
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
from absl import flags
from ml_collections import ConfigDict, config_flags

from facerep_jax.command_line import command_line, require_kind
from facerep_jax.files import local_path, write
from facerep_jax.pretrain import Run, assemble
from facerep_jax.train.chips import Chip, topology
from facerep_jax.train.collectives import collective_bytes
from facerep_jax.train.flops import of_jaxpr, of_program
from facerep_jax.train.state import count

CHILD = "FACEREP_PLAN"  # the variable by which the process that compiles knows where to leave what it found
STAND_IN = "generated_faces:size=64,train=8,validation=0,test=0"
IMAGES_PER_CORE = 1000  # decoded and cropped per second by one core; inferred, not measured
RESERVED = 0.05  # of a chip's memory, by the runtime and by fragmentation; assumed


def define_flags(flag_values: flags.FlagValues, argv: list[str]) -> None:
    """Declare the flags of the command line."""
    config_flags.DEFINE_config_file(
        "config", None, "recipe, FILE[:args]; --config.a.b=x overrides", flag_values, lock_config=True, sys_argv=argv
    )
    flags.DEFINE_string("topology", None, "CHIP:AxB[xC], such as v5e:16x16 or H100:64", flag_values=flag_values)
    flags.DEFINE_string("json", None, "a file for all that was found", flag_values=flag_values)
    flags.DEFINE_float(
        "efficiency", 0.4, "share of a chip's peak that products reach", 0.01, 1.0, flag_values=flag_values
    )
    flags.DEFINE_float("price", 0.0, "of a chip for an hour, in any currency", 0.0, flag_values=flag_values)
    flags.mark_flags_as_required(["config", "topology"], flag_values)


def run(flag_values: flags.FlagValues, words: list[str]) -> int:
    """Plan in a process of its own, print what was found, and return the exit status."""
    if words:
        raise ValueError(f"plan takes flags only, but got {words[0]!r}")
    config = flag_values.config
    require_kind(config, "pretrain", "objective", "operational")
    chip, chips = topology(flag_values.topology)
    if out := os.environ.get(CHILD):
        look(config, chip, chips, flag_values.topology, Path(out))
        return 0
    kept = local_path("--json", flag_values.json) if flag_values.json else None
    found = in_child(shlex.split(command_line("plan", flag_values))[1:], chips)
    if "error" in found:
        raise ValueError(found["error"])
    plan = found | roofline(found, chip, chips, config, flag_values.efficiency, flag_values.price)
    plan |= {"topology": flag_values.topology, "chips": chips, "chip": chip._asdict() | {"peak": chip.peak}}
    print("\n".join(lines(plan, chip)))
    if kept:
        write(kept, json.dumps(plan, indent=1) + "\n")
    return int(plan["fits"] is False)


def in_child(command: list[str], chips: int) -> dict[str, Any]:
    """What `look` finds in a process of its own, which has as many devices as there are chips, and may load libtpu."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "found.json"
        flags_of_xla = [flag for flag in os.environ.get("XLA_FLAGS", "").split() if "device_count" not in flag]
        environment = {
            **os.environ,
            CHILD: str(out),
            "JAX_PLATFORMS": "cpu",
            "JAX_NUM_CPU_DEVICES": str(chips),
            "XLA_FLAGS": " ".join(flags_of_xla),
            "TPU_SKIP_MDS_QUERY": "1",
            "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
        }
        argv = [sys.executable, "-m", "facerep_jax.cli", *command]
        done = subprocess.run(argv, env=environment, capture_output=True, text=True)
        said = done.stderr.strip().splitlines() or [f"the process that plans ended with status {done.returncode}"]
        if not out.exists():
            return {"error": said[-1].removeprefix("facerep plan: ")}
        found: dict[str, Any] = json.loads(out.read_text())
        if done.returncode < 0:  # libtpu raised a signal
            return found | {"compiled": {"error": f"the compiler crashed ({signal.Signals(-done.returncode).name})"}}
        return found | ({"compiled": {"error": said[-1]}} if done.returncode else {})


# --- in the child


def look(config: ConfigDict, chip: Chip, chips: int, name: str, out: Path) -> None:
    """Write what is known of a config's step on chips: first what needs no compiler, then what it says."""
    config = ConfigDict(config)
    config.data.dataset, config.data.weights, config.operational.skip_ids = STAND_IN, (), ""
    config.operational.workers = 0
    if config.dtype == "auto":
        config.dtype = "bfloat16"
    compiles = chip.tpu and importlib.util.find_spec("libtpu") is not None
    parts = assemble(config, tpu_devices(chip, name) if compiles else jax.devices()[:chips])
    parts.stream.close()
    traced = parts.traced()
    found: dict[str, Any] = {
        "parameters": count(parts.shapes.params),
        "flops": of_jaxpr(traced.jaxpr.jaxpr),
        "dtype": config.dtype,
        "mesh": dict(parts.mesh.shape),
        "memory": memory_by_kind(parts),
    }
    write(out, json.dumps(found))
    if compiles:
        try:
            compiled = traced.lower().compile()
        except jax.errors.JaxRuntimeError as error:
            found["compiled"] = {"error": " ".join(str(error).split())[:300]}
        else:
            memory, text = compiled.memory_analysis(), compiled.as_text()
            found["compiled"] = {
                "arguments": memory.argument_size_in_bytes,
                "temporaries": memory.temp_size_in_bytes,
                "results": memory.output_size_in_bytes - memory.alias_size_in_bytes,
                "collectives": collective_bytes(text),
                "flops": of_program(text),
            }
        write(out, json.dumps(found))


def tpu_devices(chip: Chip, name: str) -> Any:
    """The devices of a slice that is not here. Raises ValueError if libtpu knows no such slice."""
    from jax.experimental import topologies

    options = {"chip_config_name": chip.config} if chip.config else {}
    try:
        return topologies.get_topology_desc(platform="tpu", topology_name=name, **options).devices
    except Exception as error:
        raise ValueError(f"--topology {name}: libtpu has no such slice: {' '.join(str(error).split())}") from error


def memory_by_kind(parts: Run) -> dict[str, int]:
    """Bytes on each chip of what lies there between steps, of a batch, and of gradients."""
    kinds = {
        "parameters": parts.shapes.params,
        "optimizer": parts.shapes.opt_state,
        "average": parts.shapes.ema,
        "variables": parts.shapes.variables,
        "batch": parts.batch_shapes,
    }
    found = {kind: sum(map(on_chip, jax.tree.leaves(tree))) for kind, tree in kinds.items()}
    found["frozen"] = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(parts.frozen_shapes))
    return found | {"gradients": found["parameters"]}


def on_chip(leaf: jax.ShapeDtypeStruct) -> int:
    """Bytes of one chip's part of an array."""
    size = 1
    for extent in leaf.sharding.shard_shape(leaf.shape):
        size *= extent
    return size * leaf.dtype.itemsize


# --- what follows from it


def roofline(
    found: Mapping[str, Any], chip: Chip, chips: int, config: ConfigDict, efficiency: float, price: float
) -> dict[str, Any]:
    """Times of a step and of the run, what fits, and what the input must deliver; times are in seconds.

    The memory is that of the compiled step where there is one. Otherwise activations are missing from it: then `fits`
    is False if what is known is too much already, and None if not.
    """
    memory, compiled = found["memory"], found.get("compiled", {})
    micro_batches = config.data.get("micro_batches", 1)
    held = sum(memory.values())
    whole = sum(compiled.get(part, 0) for part in ("arguments", "temporaries", "results"))
    room = (1 - RESERVED) * chip.memory
    too_much = (whole or held) > room or "RESOURCE_EXHAUSTED" in compiled.get("error", "")
    state = memory["parameters"] + memory["optimizer"] + memory["average"]
    hosts = max(1, chips // chip.of_host)
    links = chip.network if chip.tpu or hosts == 1 else chip.beyond
    if "collectives" in compiled:
        # A ring sends a sum around twice, and everything else once.
        sent = sum((1 + (kind == "all-reduce")) * size for kind, size in compiled["collectives"].items())
    else:
        # Gradients are summed over the devices in each micro-batch.
        sent = (0 if chips == 1 else 2) * micro_batches * 4 * found["parameters"] / found["mesh"]["model"]
    times = {
        # With micro-batches the forward pass, a third of the operations, is there twice.
        "products": found["flops"] * (4 / 3 if micro_batches > 1 else 1) / (chips * chip.peak * efficiency),
        "memory": (2 * state + 2 * memory["gradients"]) / chip.bandwidth,
        "network": sent / links,
    }
    step, batch = max(times.values()), config.data.batch_size
    hours = step * config.steps / 3600
    rate = batch / step / hosts
    return {
        "held": held,
        "whole": whole or None,
        "room": room,
        "fits": False if too_much else True if whole else None,
        "times": times,
        "seconds_per_step": step,
        "images_per_second_per_chip": batch / step / chips,
        "steps": config.steps,
        "batch_size": batch,
        "micro_batches": micro_batches,
        "hours": hours,
        "chip_hours": hours * chips,
        "cost": hours * chips * price or None,
        "efficiency": efficiency,
        "hosts": hosts,
        "images_per_second_per_host": rate,
        "cores_per_host": rate / IMAGES_PER_CORE,
    }


def lines(plan: Mapping[str, Any], chip: Chip) -> list[str]:
    """The plan as text."""
    gib = 2**30
    kinds = ", ".join(f"{kind} {size / gib:.2f}" for kind, size in plan["memory"].items() if size)
    times = ", ".join(f"{name} {1e3 * seconds:.1f}" for name, seconds in plan["times"].items())
    said = [
        f"{plan['topology']}: {plan['chips']} of {chip.kind} on {plan['hosts']} hosts, mesh {plan['mesh']}",
        f"parameters  {plan['parameters'] / 1e6:.1f} million; {plan['flops'] / 1e12:.1f} TFLOP a step, "
        f"{plan['flops'] / plan['batch_size'] / 1e9:.1f} GFLOP an image, in {plan['dtype']}",
        f"memory      GiB on each chip: {kinds}; {plan['held'] / gib:.2f} in all, without activations",
    ]
    if "compiled" not in plan:
        install = "pip install 'facerep_jax[tpu]' to compile the step" if chip.tpu else "only TPUs are compiled for"
        said.append(f"compiled    not: {install}, which alone shows activations and what chips send each other")
    elif "error" in plan["compiled"]:
        said.append(f"compiled    not: {plan['compiled']['error']}")
    else:
        compiled = plan["compiled"]
        sent = ", ".join(f"{kind} {size / 1e6:.1f}" for kind, size in compiled["collectives"].items()) or "nothing"
        said += [
            f"compiled    GiB on each chip: arguments {compiled['arguments'] / gib:.2f}, temporaries "
            f"{compiled['temporaries'] / gib:.2f}, results beside them {compiled['results'] / gib:.2f}",
            f"sent        MB of results on each chip and step: {sent}",
            f"computed    {compiled['flops'] * plan['chips'] / plan['flops']:.2f} times the operations of the step, "
            "with what is computed again",
        ]
    verdict = {True: "fits", False: "does not fit", None: "nothing known is against it"}[plan["fits"]]
    cost = f", cost {plan['cost']:,.0f}" if plan["cost"] else ""
    said += [
        f"fits        {verdict}: {(plan['whole'] or plan['held']) / gib:.2f} of {plan['room'] / gib:.1f} GiB",
        f"step        at least {1e3 * plan['seconds_per_step']:.1f} ms, the longest of: {times}; "
        f"{plan['images_per_second_per_chip']:.0f} images/s and chip",
        f"run         {plan['steps']:,} steps in {plan['hours']:.1f} h, {plan['chip_hours']:,.0f} chip-hours{cost}",
        f"input       {plan['images_per_second_per_host']:,.0f} images/s and host: {plan['cores_per_host']:.1f} cores",
        f"assumed     products at {plan['efficiency']:.0%} of {chip.peak / 1e12:.0f} TFLOP/s, state and gradients read "
        f"and written once at {chip.bandwidth / 1e9:.0f} GB/s, all three overlapped, {IMAGES_PER_CORE} images/s "
        "decoded by a core; figures of chips recalled, nothing measured",
    ]
    if plan["fits"] is False:
        of_state = plan["held"] > 0.5 * plan["room"]
        cure = "--config.sharding=fsdp" if of_state else f"{more_micro_batches(plan)}more chips, a smaller batch"
        said.append(f"try         {cure}")
    return said


def more_micro_batches(plan: Mapping[str, Any]) -> str:
    """What to try so that activations fit: as many micro-batches as it should take, as far as the batch divides."""
    compiled, before = plan.get("compiled", {}), plan["micro_batches"]
    room = plan["room"] - compiled.get("arguments", 0) - compiled.get("results", 0)
    wanted = before * max(2, math.ceil(compiled.get("temporaries", 0) / max(room, 1)))
    examples = plan["batch_size"] // (plan["mesh"]["replica"] * plan["mesh"]["fsdp"])
    number = next((n for n in range(wanted, examples + 1) if examples % n == 0), examples)
    less = f"--config.data.micro_batches={number} (the same result, where the objective allows it), "
    return f"{less if number > before else ''}--config.remat=nothing_saveable, "
