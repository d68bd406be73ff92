"""Data sets in a bucket: a stand-in for Google's over loopback; slow, an emulator, whole runs and their records.

The stand-in keeps files in fsspec's memory, where etils finds what describes a set, and answers ArrayRecord by HTTP.
"""

import http.server
import importlib.util
import re
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from etils.epath import backend
from fsspec.implementations.memory import MemoryFileSystem

from facerep_jax import cli
from facerep_jax.data import bucket, pipeline
from facerep_jax.data.library import open_dataset
from tests import processes
from tests.data.test_library import write

# As ArrayRecord 0.8.6 says them, shortened; the first a quarter of an hour after a bucket stopped answering.
LOST = "Retry policy exhausted, with a last message of CURL error [7]=Couldn't connect to server; at byte 0"
CORRUPTED = "Corrupted Riegeli/records file: chunk data hash mismatch"


class Bucket(MemoryFileSystem):
    """Files of buckets in memory, under BUCKET/...."""

    protocol = "gcs"
    store: ClassVar[dict[str, object]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]

    @classmethod
    def _strip_protocol(cls, path):
        return MemoryFileSystem._strip_protocol(path.removeprefix("gs://"))


class Answers(http.server.BaseHTTPRequestHandler):
    """Parts of objects, as ArrayRecord asks for them."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
        found = re.search(r"/b/([^/]+)/o/(.*)$", path) or re.search(r"^/([^/]+)/(.*)$", path)
        data = Bucket().cat(f"gs://{found[1]}/{found[2]}")
        first, last = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", "bytes=0-")).groups()
        begin = int(first) if first else max(len(data) - int(last), 0)
        end = min(int(last) + 1, len(data)) if first and last else len(data)
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {begin}-{end - 1}/{len(data)}")
        self.send_header("Content-Length", str(end - begin))
        self.send_header("x-goog-generation", "1")
        self.end_headers()
        self.wfile.write(data[begin:end])

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def stand_in():
    """An empty gs://faces; ArrayRecord reads the variable when it first opens a bucket."""
    patch = pytest.MonkeyPatch()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    patch.setenv("CLOUD_STORAGE_EMULATOR_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY"):
        patch.delenv(name, raising=False)
    patch.setattr(importlib.util, "find_spec", lambda name, of=importlib.util.find_spec: name == "gcsfs" or of(name))
    patch.setattr(backend.fsspec_backend, "_get_filesystem", lambda name: Bucket())
    yield Bucket()
    patch.undo()
    server.shutdown()
    server.server_close()


@pytest.fixture
def there(stand_in, tmp_path):
    """A data set in gs://faces/data, and the same in a folder."""
    write(tmp_path, splits=("train", "test"))
    Bucket.store.clear()
    for path in tmp_path.rglob("*"):
        if path.is_file():
            stand_in.pipe(f"gs://faces/data/{path.relative_to(tmp_path)}", path.read_bytes())
    return tmp_path


def test_a_set_in_a_bucket_is_what_it_is_in_a_folder(there):
    """Tried: shards looked for in a folder called gs:."""
    ours, theirs = open_dataset("sets/tiny", "gs://faces/data"), open_dataset("sets/tiny", there)
    assert str(ours.path) == "gs://faces/data/sets/tiny/1.0.0"
    assert (ours.splits, ours.features, ours.digest) == (theirs.splits, theirs.features, theirs.digest)
    assert ours.meta == theirs.meta
    one, other = ours.source("train"), theirs.source("train")
    assert len(one) == len(other) == 2
    for index in range(2):
        for name, value in other[index].items():
            np.testing.assert_array_equal(one[index][name], value, err_msg=name)
    assert one.only(("id",))[0] == {"id": other[0]["id"]}


def test_a_set_that_is_not_in_the_bucket_says_how_to_prepare_it(there):
    with pytest.raises(FileNotFoundError, match=r"'sets/tinx' is not prepared in gs://faces/data; .*'sets/tiny'"):
        open_dataset("sets/tinx", "gs://faces/data")


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        (lambda raw: raw[:100], "is cut or holds no records"),
        (lambda raw: raw[: 2**16], "is cut or holds no records"),
        (lambda raw: b"x" * len(raw), "is cut or holds no records"),
        (None, "sets-test.array_record-00000-of-00001"),
    ],
)
def test_a_damaged_set_in_a_bucket_is_refused(there, damage, what):
    name = "gs://faces/data/sets/tiny/1.0.0/sets-test.array_record-00000-of-00001"
    raw = Bucket().cat(name)
    Bucket().rm(name) if damage is None else Bucket().pipe(name, damage(raw))
    with pytest.raises(ValueError, match=rf"data set 'sets/tiny' in gs://faces/data/.* is damaged .*{what}"):
        open_dataset("sets/tiny", "gs://faces/data")


class Silent(list):
    """Records that raise what ArrayRecord says."""

    def __getitem__(self, index):
        raise RuntimeError(self.said)


@pytest.mark.parametrize(
    ("path", "said", "raised"),
    [
        ("gs://faces/data", LOST, bucket.Unreachable),
        ("gs://faces/data", CORRUPTED, pipeline.Unreadable),
        ("gs://faces/data", "", pipeline.Unreadable),
        ("/data", LOST, pipeline.Unreadable),
    ],
)
def test_a_bucket_that_does_not_answer_ends_the_stream_and_a_broken_record_does_not(there, path, said, raised):
    """Tried: records of a bucket that does not answer are passed over like broken ones."""
    source = open_dataset("sets/tiny", there).source("train")
    source._raw, source._path = Silent(), path
    source._raw.said = said
    with pytest.raises(
        raised, match="does not answer: Retry policy exhausted" if raised is bucket.Unreachable else "a record"
    ):
        pipeline.read(source, 0, "a record")


class Away(Exception):
    __module__ = "gcsfs.retry"


@pytest.mark.parametrize("error", [Away("429"), PermissionError("Forbidden"), TimeoutError()])
def test_errors_of_the_network_are_no_damage(stand_in, monkeypatch, error):
    def fails(*_, **__):
        raise error

    monkeypatch.setattr(Bucket, "ls", fails)
    monkeypatch.setattr(Bucket, "info", fails)
    monkeypatch.setattr(Bucket, "find", fails)
    with pytest.raises(bucket.Unreachable, match="gs://faces/data does not answer: ") as raised:
        open_dataset("sets/tiny", "gs://faces/data")
    assert str(error) in str(raised.value)


def test_what_cannot_be_read_is_refused_by_one_line(capsys):
    with pytest.raises(ValueError, match=r"data_dir s3://x/y: s3:// cannot be read, since ArrayRecord .*; copy the"):
        open_dataset("sets/tiny", "s3://x/y")
    if importlib.util.find_spec("gcsfs") is None:
        with pytest.raises(ValueError, match=r"gs:// needs gcsfs: pip install 'facerep_jax\[gs\]'"):
            open_dataset("sets/tiny", "gs://x/y")
    argv = ["facerep", "pretrain", "--config=tests/train/tiny_config.py", "--workdir=gs://x/run"]
    assert cli.main(argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == (
        "facerep pretrain: workdir gs://x/run: gs:// is not supported, only paths of this machine's file system, since "
        "a bucket has no locks, no files that grow and no folders that are renamed at once; use a folder that all "
        "hosts see, and copy it to the bucket\n"
    )
    assert not Path("gs:").exists()


SERVE = """
import sys, time
from gcp_storage_emulator.server import create_server
create_server("127.0.0.1", int(sys.argv[1]), in_memory=True, default_bucket="faces").start()
time.sleep(3600)
"""


@pytest.fixture
def emulator(monkeypatch):
    """An emulator of Google's buckets with an empty gs://faces, which child processes reach as they would Google's."""
    for name in ("gcsfs", "gcp_storage_emulator"):
        pytest.importorskip(name)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{probe.getsockname()[1]}"
    log = subprocess.DEVNULL
    process = subprocess.Popen([sys.executable, "-c", SERVE, address.rpartition(":")[2]], stdout=log, stderr=log)
    monkeypatch.setenv("CLOUD_STORAGE_EMULATOR_ENDPOINT", address)
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", address)
    deadline = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(f"{address}/storage/v1/b/faces", timeout=5).close()
            break
        except OSError:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)
    yield address
    process.kill()
    process.wait()


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1])
def test_a_run_that_reads_from_a_bucket_equals_one_that_reads_from_a_folder(emulator, tmp_path, workers):
    """The same records in each step and the same state, to the bit, read by threads or by a process of its own."""
    data = tmp_path / "data"
    argv = ["prepare", "generated_faces:size=48,train=64,validation=1,test=1", "--name=few", f"--data_dir={data}"]
    assert cli.main(["facerep", *argv]) == 0
    copy = f"import gcsfs; gcsfs.GCSFileSystem(token='anon').put({str(data)!r} + '/', 'faces/data', recursive=True)"
    subprocess.run([sys.executable, "-c", copy], check=True)
    runs = {}
    for name, where in {"folder": data, "bucket": "gs://faces/data"}.items():
        runs[name] = tmp_path / name
        flags = (f"--config={processes.TINY}", *processes.FLAGS, f"--config.operational.workers={workers}")
        place = ("--config.data.dataset=generated_faces/few", f"--config.data.data_dir={where}")
        status, said = processes.finish(processes.facerep(runs[name], *flags, *place))
        assert status == 0, said
    processes.assert_same(runs["bucket"], runs["folder"])
    processes.assert_equal_to_the_bit(runs["bucket"], runs["folder"], processes.STEPS)
