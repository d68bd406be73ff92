"""Records that cannot be read, in the files of a data set: each is named and counted, and no other moves."""

import itertools
import re
from contextlib import closing

import numpy as np

from facerep_jax import cli
from facerep_jax.pretrain import open_stream
from facerep_jax.train.writer import lines_of
from tests.processes import FLAGS, STEPS, TINY, here, ids
from tests.train.tiny_config import get_config

NAME = "generated_faces/tiny"


def order(data_dir) -> list[list[str]]:
    """The ids of each step, as the stream gives them."""
    config = get_config()
    config.data.dataset, config.data.data_dir = NAME, str(data_dir)
    stream, *_ = open_stream(config, needs=("image",))
    with closing(stream):
        return [[str(name) for name in batch["id"]] for batch in itertools.islice(stream, STEPS)]


def test_a_damaged_record_is_replaced_counted_and_named(tmp_path, caplog):
    """The run goes on, and the log says which it was.

    Tried: a record that is not replaced; one that is not counted; all records after it moved by one.
    """
    faces = "generated_faces:size=48,train=64,validation=0,test=0"
    assert cli.main(["facerep", "prepare", faces, "--name=tiny", f"--data_dir={tmp_path}"]) == 0
    whole = order(tmp_path)
    (path,) = tmp_path.rglob("*.array_record*")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    workdir = tmp_path / "damaged"
    flags = (f"--config.data.dataset={NAME}", f"--config.data.data_dir={tmp_path}")
    status, output = here("pretrain", workdir, f"--config={TINY}", *FLAGS, *flags)
    assert status == 0, output
    replaced = lines_of(workdir)[-1]["records_replaced"]
    found = list(ids(workdir).values())
    lost = {name for step in whole for name in step} - {name for step in found for name in step}
    named = [int(position) for position in re.findall(r"the record of position (\d+) ", caplog.text)]
    assert replaced == len({position for position in named if position < 16 * STEPS}) > 0  # others were read ahead
    assert lost
    moved = sum(len(set(a) - set(b)) for a, b in zip(whole, found, strict=True))
    assert moved <= replaced  # all others are in their steps
    assert np.isfinite([line["loss"] for line in lines_of(workdir)]).all()
