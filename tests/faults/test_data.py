"""Records that cannot be read, in the files of a data set: each is named and counted, and no other moves."""

import json
import re

import numpy as np

from facerep_jax import cli
from facerep_jax.train.writer import lines_of
from tests.processes import SMOKE

STEPS = 12


def pretrain(workdir, data):
    flags = ("--config.data.dataset=generated_faces/tiny", f"--config.data.data_dir={data}", f"--config.steps={STEPS}")
    ledger = ("--config.operational.sample_ledger=True", "--config.operational.compilation_cache=False")
    status = cli.main(["facerep", "pretrain", f"--config={SMOKE}", f"--workdir={workdir}", *flags, *ledger])
    return status, [json.loads(line)["ids"] for line in (workdir / "sample_ledger.jsonl").read_text().splitlines()]


def test_a_damaged_record_is_replaced_counted_and_named(tmp_path, caplog):
    """The run goes on, and the log says which it was.

    Tried: a record that is not replaced; one that is not counted; all records after it moved by one.
    """
    faces = "generated_faces:size=48,train=64,validation=0,test=0"
    assert cli.main(["facerep", "prepare", faces, "--name=tiny", f"--data_dir={tmp_path}"]) == 0
    whole = pretrain(tmp_path / "whole", tmp_path)
    assert whole[0] == 0

    (path,) = tmp_path.rglob("*.array_record*")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    caplog.clear()
    status, found = pretrain(tmp_path / "damaged", tmp_path)
    assert status == 0
    replaced = lines_of(tmp_path / "damaged")[-1]["records_replaced"]
    lost = {name for step in whole[1] for name in step} - {name for step in found for name in step}
    named = [int(position) for position in re.findall(r"the record of position (\d+) ", caplog.text)]
    assert replaced == len({position for position in named if position < 16 * STEPS}) > 0  # others were read ahead
    assert lost
    moved = sum(len(set(a) - set(b)) for a, b in zip(whole[1], found, strict=True))
    assert moved <= replaced  # all others are in their steps
    assert np.isfinite([line["loss"] for line in lines_of(tmp_path / "damaged")]).all()
