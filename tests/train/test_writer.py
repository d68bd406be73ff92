import errno
import json
import time

import pytest
from tensorboardX.proto import event_pb2
from tensorboardX.record_writer import RecordWriter

from facerep_jax.train.writer import Writer, lines_of


def test_lines_are_json_with_the_step_and_are_appended(tmp_path):
    begin = time.time()
    for step in (1, 2):
        writer = Writer(tmp_path)
        writer.write(step, {"loss": 1.5 / step})
        writer.close()
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines == lines_of(tmp_path)
    assert begin - 0.001 <= lines[0].pop("time") <= lines[1].pop("time") <= time.time() + 0.001
    assert lines == [{"step": 1, "loss": 1.5}, {"step": 2, "loss": 0.75}]


def test_a_line_that_was_left_half_is_removed(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"step": 2, "lo')
    assert lines_of(tmp_path) == [{"step": 1}]
    writer = Writer(tmp_path)
    writer.write(2, {})
    writer.close()
    assert [line["step"] for line in lines_of(tmp_path)] == [1, 2]


@pytest.mark.parametrize("line", [b'{"step": 2, "lo', b"", b"\0\0", b'{"step": "\xff"}'])
def test_a_damaged_line_is_named_unless_it_is_the_incomplete_last(tmp_path, line):
    """Tried: the file read as text, which an incomplete last line need not be."""
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1}\n' + line + b'\n{"step": 3}\n')
    with pytest.raises(ValueError, match=r"metrics\.jsonl, line 2 is not JSON: "):
        Writer(tmp_path)
    path.write_bytes(b'{"step": 1}\n' + line)
    assert lines_of(tmp_path) == [{"step": 1}]
    Writer(tmp_path).close()
    assert path.read_bytes() == b'{"step": 1}\n'


def test_what_is_not_finite_is_null_so_that_every_line_is_json(tmp_path):
    writer = Writer(tmp_path)
    writer.write(1, {"loss": float("nan"), "norm": float("inf")})
    writer.close()
    text = (tmp_path / "metrics.jsonl").read_text()
    found = json.loads(text)
    assert {name: found[name] for name in ("step", "loss", "norm")} == {"step": 1, "loss": None, "norm": None}
    assert "NaN" not in text


def test_tensorboard_gets_the_same_values_at_once(tmp_path):
    writer = Writer(tmp_path)
    writer.write(7, {"loss": 0.25})
    (path,) = tmp_path.glob("events.*")
    raw, found = path.read_bytes(), []
    while raw:  # TFRecord: length (8), its checksum (4), payload, its checksum (4)
        size = int.from_bytes(raw[:8], "little")
        event = event_pb2.Event.FromString(raw[12 : 12 + size])
        found += [(event.step, value.tag, value.simple_value) for value in event.summary.value]
        raw = raw[16 + size :]
    assert found == [(7, "loss", 0.25)]
    writer.close()


def test_a_disk_that_is_full_for_a_while_is_an_error_and_never_a_wait(tmp_path, monkeypatch):
    """Tried: tensorboardX's SummaryWriter: its thread ends with the error, which nobody hears of."""

    def flush(self):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(RecordWriter, "flush", flush)
    writer = Writer(tmp_path)
    for step in range(1, 21):
        with pytest.raises(OSError, match="No space left"):
            writer.write(step, {"loss": 0.5})
    monkeypatch.undo()
    writer.write(21, {"loss": 0.5})
    writer.close()
