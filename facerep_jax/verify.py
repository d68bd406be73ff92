"""Check that the checkpoints of a run are what was saved.

facerep verify WORKDIR

Reads every byte of every checkpoint and compares it with the digests that were taken when the checkpoint was saved. The
exit status is 0 if all checkpoints are whole, 1 if one is damaged, and 2 if there are none.
"""

import hashlib
from pathlib import Path

from absl import flags

from facerep_jax.files import local_path
from facerep_jax.train import digests


def define_flags(flag_values: flags.FlagValues, argv: list[str]) -> None:
    """Declare no flags."""


def run(flag_values: flags.FlagValues, words: list[str]) -> int:
    """Check all checkpoints of a run, print the result for each, and return the exit status."""
    if len(words) != 1:
        raise ValueError("which run? facerep verify WORKDIR")
    workdir = local_path("WORKDIR", words[0])
    steps = digests.all_steps(workdir / "checkpoints")
    if not steps:
        raise FileNotFoundError(f"no checkpoint in {workdir}; give the --workdir of a pre-training")
    status = 0
    for step in steps:
        folder = workdir / "checkpoints" / str(step)
        problem = digests.fault(folder) or frozen_fault(workdir, folder)
        sizes = digests.sizes(folder)
        print(f"step {step}: {problem or f'whole, {len(sizes)} files of {sum(sizes.values()) / 1e6:.1f} MB'}")
        status = status or bool(problem)
    return int(status)


def frozen_fault(workdir: Path, folder: Path) -> str:
    """What is wrong with the frozen networks that a checkpoint was trained with; empty if nothing is."""
    expected = digests.meta_of(folder).get("frozen", {})
    for name, digest in expected.items():
        path = workdir / name
        if not path.is_file():
            return f"{name}, which it was trained with, is missing"
        if hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            return f"{name} is not what it was trained with"
    return ""
