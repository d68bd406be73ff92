"""Paths and whole files."""

import json
import math
import os

import pytest

from facerep_jax.files import json_of, local_path, read_object, writable_folder, write


def test_a_bucket_is_refused_and_a_path_is_not():
    assert str(local_path("workdir", "runs/a:b")) == "runs/a:b"
    with pytest.raises(ValueError, match="workdir gs://bucket/x: gs:// is not supported"):
        local_path("workdir", "gs://bucket/x")
    with pytest.raises(ValueError, match=r"since a bucket has no locks; use a folder that all hosts see, and copy it"):
        local_path("workdir", "s3://bucket/x", needs="locks")


def test_a_tilde_is_the_home_folder(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ada")
    assert str(local_path("workdir", "~/runs")) == "/home/ada/runs"
    assert str(local_path("workdir", "~")) == "/home/ada"
    assert str(local_path("workdir", "runs/~")) == "runs/~"
    assert str(local_path("workdir", "runs/../~x")) == "runs/../~x"
    with pytest.raises(ValueError, match="workdir ~nobody_here/x: no such home folder"):
        local_path("workdir", "~nobody_here/x")


def test_a_folder_is_made_in_one_that_can_be_written_to(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    assert writable_folder("--workdir", tmp_path) == tmp_path
    assert writable_folder("--workdir", tmp_path / "a" / "b") == tmp_path
    with pytest.raises(NotADirectoryError, match=r"--workdir .*/file/a: .*/file is a file"):
        writable_folder("--workdir", tmp_path / "file" / "a")
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path)
    with pytest.raises(PermissionError, match=f"--workdir {tmp_path}/a: nothing can be written in {tmp_path}"):
        writable_folder("--workdir", tmp_path / "a")


@pytest.mark.parametrize("content", ["näw", lambda path: path.write_text("näw", encoding="utf-8")])
def test_a_file_is_replaced(tmp_path, content):
    path = tmp_path / "results.json"
    path.write_text("old")
    write(path, content)
    assert path.read_text(encoding="utf-8") == "näw"
    assert list(tmp_path.iterdir()) == [path]


def half(path):
    path.write_text("ha")
    raise OSError("the disk is full")


@pytest.mark.parametrize(("content", "error"), [(half, OSError), ("\ud800", UnicodeEncodeError)])
def test_what_fails_leaves_the_old_file_and_nothing_else(tmp_path, content, error):
    path = tmp_path / "results.json"
    path.write_text("old")
    with pytest.raises(error):
        write(path, content)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_only_an_object_is_read(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('{"a": 1}')
    assert read_object(path) == {"a": 1}
    for raw in (b"", b"{", b"\0\0", b'{"a": "\xff"}'):
        path.write_bytes(raw)
        with pytest.raises(ValueError, match=r"a\.json is not JSON: "):
            read_object(path)
    path.write_text("[]")
    with pytest.raises(ValueError, match=r"a\.json must hold an object, not list"):
        read_object(path)


def test_what_is_no_number_is_null_in_json():
    data = {"a": [1.5, math.nan], "b": (-math.inf, "x"), "c": {"d": math.nan, "e": None}, "f": 2}
    assert json.loads(json_of(data)) == {"a": [1.5, None], "b": [None, "x"], "c": {"d": None, "e": None}, "f": 2}
