"""Archives as they come and as they should not: nothing is written, whatever their paths say."""

import io
import os
import tarfile
import tracemalloc

import pytest

from facerep_jax.data import tars
from facerep_jax.data.tars import CUT, TarSample, samples
from tests.data.laion import write_tar


def test_files_that_stand_in_a_row_under_one_name_are_a_sample(tmp_path):
    path = write_tar(
        tmp_path / "a.tar", {"x/1": {"jpg": b"1", "TXT": b"one"}, "x/2": {"seg.png": b"2"}, "é": {"jpg": b""}}
    )
    assert list(samples(path)) == [
        TarSample("x/1", {"jpg": b"1", "txt": b"one"}),
        TarSample("x/2", {"seg.png": b"2"}),
        TarSample("é", {"jpg": b""}),
    ]


def test_one_name_twice_is_two_samples(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for _ in range(2):
            archive.addfile(tarfile.TarInfo("1.jpg"), io.BytesIO())
    assert [sample.key for sample in samples(tmp_path / "a.tar")] == ["1", "1"]


def member(name, kind=tarfile.REGTYPE, target="", size=0):
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, target, size
    return info


HOSTILE = {
    "../../escaped.jpg": (member("../../escaped.jpg"), "a path that leads out of its folder"),
    "a/../../escaped.jpg": (member("a/../../escaped.jpg"), "a path that leads out of its folder"),
    "absolute": (member("/tmp/escaped.jpg"), "a path that is not relative"),
    "of Windows": (member("..\\escaped.jpg"), "a path that is not relative"),
    "a drive": (member("C:escaped.jpg"), "a path that is not relative"),
    "line feed": (member("a\nb.jpg"), "a path that cannot be printed"),
    "symbolic link": (member("a.jpg", tarfile.SYMTYPE, "/etc/passwd"), "a link or device in the archive"),
    "hard link": (member("a.jpg", tarfile.LNKTYPE, "../../x"), "a link or device in the archive"),
    "device": (member("a.jpg", tarfile.CHRTYPE), "a link or device in the archive"),
    "pipe": (member("a.jpg", tarfile.FIFOTYPE), "a link or device in the archive"),
}


@pytest.mark.parametrize(("info", "fault"), HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("kind", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_what_leads_elsewhere_is_a_fault_and_leads_nowhere(tmp_path, monkeypatch, info, fault, kind):
    folder = tmp_path / "deep" / "down"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    with tarfile.open("a.tar", "w", format=kind) as archive:
        archive.addfile(info)
        good = member("good.jpg", size=1)
        archive.addfile(good, io.BytesIO(b"x"))
    bad, after = samples(folder / "a.tar")
    assert (bad.fault, bad.files) == (fault, {})
    assert after == TarSample("good", {"jpg": b"x"})
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["a.tar"]


def test_large_and_sparse_files_are_not_read(tmp_path):
    """A sparse file of a terabyte is a few bytes in an archive."""
    path = tmp_path / "a.tar"
    large = tars.LARGEST + 1
    with open(path, "wb") as file:
        file.write(member("large.jpg", size=large).tobuf(tarfile.GNU_FORMAT))
        file.seek(-(-large // 512) * 512, os.SEEK_CUR)
        sparse = bytearray(member("sparse.jpg", b"S").tobuf(tarfile.GNU_FORMAT))
        sparse[483:495] = b"\x80" + (1 << 40).to_bytes(11)  # its size, of GNU's old format
        sparse[148:156] = b" " * 8
        sparse[148:156] = b"%06o\0 " % sum(sparse)
        file.write(sparse)
        file.write(bytes(1024))
    tracemalloc.start()
    found = [(sample.key, sample.fault) for sample in samples(path)]
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found == [("large", "a file of more than 64 MiB"), ("sparse", "a sparse file")]
    assert most < 1 << 20


@pytest.mark.parametrize("end", [100, 600, 1100, 1700, 2048 + 100])
def test_an_archive_that_is_cut_says_so(tmp_path, end):
    path = write_tar(tmp_path / "a.tar", {"1": {"jpg": b"a" * 700}, "2": {"jpg": b"b" * 700}})
    whole = path.read_bytes()
    path.write_bytes(whole[:end])
    if end == 100:
        with pytest.raises(ValueError, match=r"a\.tar is no uncompressed tar archive"):
            list(samples(path))
        return
    *_, last = samples(path)
    assert last == TarSample("", fault=CUT)
    path.write_bytes(whole[:1536] + bytes([1]) * 512 + whole[2048:])  # the second header is damaged
    first, last = samples(path)
    assert (first.key, last) == ("1", TarSample("", fault=CUT))


@pytest.mark.parametrize("content", [b"", b"not an archive" * 100, b"PK\3\4" + bytes(2000), b"\x1f\x8b" + bytes(2000)])
def test_another_file_is_an_error_that_names_it(tmp_path, content):
    path = tmp_path / "a.tar"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.tar is no uncompressed tar archive"):
        list(samples(path))


def test_memory_is_that_of_a_sample(tmp_path):
    path = write_tar(tmp_path / "a.tar", {str(n): {"jpg": bytes(100_000)} for n in range(200)})
    tracemalloc.start()
    assert sum(len(sample.files["jpg"]) for sample in samples(path)) == 20_000_000
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 2_000_000
