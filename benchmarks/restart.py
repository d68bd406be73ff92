"""Measure how long a restarted run takes to its next step, how long a save blocks it, and the cost of time accounting.

python benchmarks/restart.py [--config CONFIG] [--dataset DATASET] [--repeats 3]

Alternates between runs with and without the cache of compiled programs. Each run is stopped by SIGTERM after some steps
and started again. Times are read from metrics.jsonl and count from the start of the command to its first step.
"""

import argparse
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax
import jax.numpy as jnp

from facerep_jax.train.account import Meter
from facerep_jax.train.writer import lines_of

CONFIG = "configs/pretrain/farl_nano.py"
DATASET = "generated_faces:size=80,train=512,validation=0,test=0"
STOP, STEPS = 12, 24  # the step after which a run is stopped, and the length of the run


def start(run: list[str], workdir: Path, cache: bool) -> subprocess.Popen[bytes]:
    """Start a run that logs every step and saves every fourth; returns its process."""
    flags = [*run, f"--workdir={workdir}", f"--config.steps={STEPS}", "--config.log_every=1"]
    flags += ["--config.checkpoint_every=4", f"--config.operational.compilation_cache={cache}"]
    return subprocess.Popen(
        [sys.executable, "-m", "facerep_jax.cli", "pretrain", *flags],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def measure(run: list[str], cache: bool) -> dict[str, float]:
    """Stop a run once, start it again, and return its times in seconds."""
    with tempfile.TemporaryDirectory() as folder:
        workdir = Path(folder)
        first = start(run, workdir, cache)
        while not any(line["step"] >= STOP for line in lines_of(workdir)):
            if first.poll() is not None:
                raise SystemExit(f"the run ended with status {first.returncode} before step {STOP}")
            time.sleep(0.05)
        first.send_signal(signal.SIGTERM)
        if first.wait() != 75:
            raise SystemExit(f"the run ended with status {first.returncode}, not 75")
        before = lines_of(workdir)
        begin = time.monotonic()
        again = start(run, workdir, cache)
        while len(lines_of(workdir)) == len(before) and again.poll() is None:
            time.sleep(0.01)
        seen = time.monotonic() - begin
        if again.wait():
            raise SystemExit(f"the run ended with status {again.returncode} when started again")
        after = lines_of(workdir)[len(before) :]
    saves = [line["seconds/save"] for line in [*before, *after] if line["seconds/save"] > 0]
    return {
        "first start": before[0]["seconds/start"],
        "first compile": before[0]["seconds/compile"],
        "restart": after[0]["seconds/start"],
        "restart compile": after[0]["seconds/compile"],
        "from start again to the next step, by the clock": seen,
        "step": statistics.median(line["seconds/step"] for line in after[1:]),
        "save holds up": statistics.median(saves) if saves else 0.0,
    }


def accounting(steps: int = 5000) -> float:
    """Seconds of CPU time per step that time accounting costs."""
    meter, done = Meter(1), jnp.zeros(())
    begin = time.process_time()
    for step in range(1, steps + 1):
        for kind in ("input", "step", "save"):
            with meter.timeline.span(kind):
                pass
        meter.timeline.started(done)
        if step % 20 == 0:
            meter.measure(step, 20)
    meter.close()
    return (time.process_time() - begin) / steps


def main() -> None:
    """Measure several runs and print medians as a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--config", default=CONFIG)
    parser.add_argument("--dataset", default=DATASET)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    found: dict[bool, list[dict[str, float]]] = {False: [], True: []}
    for _ in range(arguments.repeats):
        for cache, runs in found.items():
            runs.append(measure([f"--config={arguments.config}", f"--config.data.dataset={arguments.dataset}"], cache))
    print(f"seconds, median of {arguments.repeats}; jax {jax.__version__} on {jax.devices()[0].device_kind}\n")
    print("| what | without the cache | with it |\n|---|---|---|")
    for name in found[True][0]:
        values = [statistics.median(run[name] for run in found[cache]) for cache in (False, True)]
        print(f"| {name} | {values[0]:.2f} | {values[1]:.2f} |")
    step = statistics.median(run["step"] for run in found[True])
    print(f"\naccount of the time: {1e6 * accounting():.0f} us of CPU time a step, {accounting() / step:.3%} of one")


if __name__ == "__main__":
    main()
