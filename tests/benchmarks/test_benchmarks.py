"""Benchmarks run, and print what they say they print; what they measure is another matter."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def printed(name, *flags):
    env = {**os.environ, "JAX_NUM_CPU_DEVICES": "1"}
    command = [sys.executable, ROOT / "benchmarks" / f"{name}.py", *flags]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, env=env)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_generator():
    rows = re.findall(
        r"^\| (\d+) \| (\d+) \(.*\) \| ([\d,]+) \(", printed("generated_faces", "--faces=2", "--repeats=1"), re.M
    )
    assert [int(row[0]) for row in rows] == [48, 112, 224]
    assert all(int(row[1]) > 0 for row in rows)


@pytest.mark.slow
def test_the_input():
    """Every loader that can be imported gives the batches that are asked for, or the benchmark says which do not."""
    few = ("--images=80", "--batch=8", "--workers=1", "--rounds=1", "--seconds=0.2", "--batches=20")
    out = printed("input", "--sizes", "256", "--work", "cut", "resized", *few)
    tables = out.split("\n256 x 256 pixels")[1:]
    assert len(tables) == 2
    for table in tables:
        assert re.search(r"^\| ours \| [\d,]+ \(.*\) \| \d+% \| 1\.00 x \| [\d,]+ \| [\d,]+ \|$", table, re.M), table
        assert re.search(r"^\| ceiling \| [\d,]+ \(.*\) \| 100% ", table, re.M), table
        assert re.search(r"^ours over 20 batches, MiB: (\d+(, )?){10}$", table, re.M), table
    for name, package in (("torch", "torch"), ("webdataset", "webdataset"), ("tf.data", "tensorflow")):
        absent = importlib.util.find_spec(package) is None
        assert (f"{name} is absent: No module named '{package}'" in out) == absent


@pytest.mark.slow
def test_a_probe_on_cached_features():
    out = printed("evaluate", "--faces=16", "--steps=4", "--repeats=1")
    assert (
        len(re.findall(r"cached features +[\d.]+ s, encoded in every step +[\d.]+ s: [\d.]+ times as long", out)) == 2
    )
    assert "train=16,validation=4,test=8" in out


@pytest.mark.slow
def test_the_memory_of_an_evaluation():
    out = printed("evaluate_memory", "--records=30", "--size=64", "--protocols", "linear_probe")
    assert re.search(r"^linear_probe +peak of resident memory +[\d.]+ GB, +\d+ s$", out, re.M), out


@pytest.mark.slow
def test_our_training_step():
    out = printed("train_step", "--case=Nano", "--sides=ours", "--rounds=1", "--steps=1")
    assert re.search(r"^facerep_jax +[\d.]+ +\d+% +[\d.]+ GiB$", out, re.M), out


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="PyTorch is not installed")
def test_both_training_steps_begin_alike():
    """It refuses to time what does not begin with equal losses."""
    out = printed("train_step", "--case=Nano", "--sides=ours,eager", "--rounds=2", "--steps=1")
    assert re.search(r"ours / the faster torch of each round: [\d.]+ \[", out), out
