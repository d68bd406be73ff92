"""The bundle for one GPU, as a whole: on a CPU, small; on stand-ins for a GPU, in its order and within its time.

Planted and seen red: lines of a job that failed dropped; an unknown key in the command of the pre-training.
"""

import importlib
import json
import subprocess
import sys

import numpy as np
import pytest
from absl import flags

from benchmarks import device, device_numbers
from benchmarks.device_parts import one_line, part
from facerep_jax.command_line import resolve

GPU = dict(kind="NVIDIA H100 80GB HBM3", platform="gpu", compiler="cuda 13000", cores=16, nvidia_smi="", versions={})


def parsed(words):
    """The config that a command of facerep would run; raises for an unknown flag or key."""
    command, own = importlib.import_module(f"facerep_jax.{words[0]}"), flags.FlagValues()
    argv = [f"facerep {words[0]}", *map(resolve, words[1:])]
    command.define_flags(own, argv)
    own(argv)
    return own["config"].value if "config" in own else None


class Here:
    """Runs jobs in this process, but parses commands of facerep only; or says what stands in for them."""

    def __init__(self, **stand_ins):
        self.jobs, self._stand_ins = [], stand_ins

    def __call__(self, job, heard):
        settings = json.loads(json.dumps(job.settings))
        self.jobs.append((job.function, settings, job.env, job.seconds))
        name = job.function.partition(":")[2]
        with job.lines.open("w") as file:

            def say(**found):
                file.write(json.dumps(found) + "\n")

            try:
                if name in self._stand_ins:
                    return self._stand_ins[name](say, **settings) or ""
                if name == "facerep":
                    parsed(settings["words"])
                    say(status=0, seconds=1.0)
                else:
                    part(job.function)(say, **settings)
            except Exception as error:
                return one_line(error)
        return ""


def found(folder):
    return json.loads((folder / "device.json").read_text())["jobs"]


@pytest.mark.slow
def test_all_parts_run_small(tmp_path, monkeypatch):
    """All but commands of facerep and steps for their numbers alone, which tests marked gpu and slow take."""
    monkeypatch.setattr(device_numbers, "first_step", lambda *_: (2.0, {"a": np.ones(3), "b": np.zeros(2)}))
    here = Here(resume=lambda say, folder, name: say(check=f"resume, {name}", value=0.0, limit=0.0, ok=True))
    assert device.main(["--out", str(tmp_path), "--tiny"], here) == 0
    jobs = {(job["part"], job["name"]): job for job in found(tmp_path)}
    assert {part for part, _ in jobs} == {"card", *device.SHARES}
    assert not [job for job in jobs.values() if job["problem"]]
    checks = [line["check"] for line in jobs["numbers", "against the CPU"]["lines"] if line.get("ok")]
    assert [name.partition(" ")[0] for name in checks] == ["float32", "float32", "attention", "attention", "codes,"]
    (ours,) = jobs["step", "ours"]["lines"]
    assert ours["losses"][2] < ours["losses"][0]
    assert ours["flops_per_image"] > 1e6
    assert jobs["stream", "48 px"]["lines"][0]["images_per_second"] > 0
    table = (tmp_path / "device.md").read_text()
    assert "| ours | 4 |" in table
    assert "Tiny: everything small, no measurement." in table


def test_numbers_that_are_off_are_told(monkeypatch):
    def first_step(case, batch, device, dtype, precision):
        off = {"float32": 0.0, "bfloat16": 0.3}[dtype]
        return 2.0 + off, {"a": np.array([1.0, 1.0 + off]), "b": np.array([1e-9 + 1e-6 * off])}

    monkeypatch.setattr(device_numbers, "first_step", first_step)
    monkeypatch.setattr(device_numbers, "attention", lambda *_: None)
    monkeypatch.setattr(device_numbers, "codes", lambda *_: None)
    lines = []
    device_numbers.numbers(lambda **found: lines.append(found), case="Nano", batch=4)
    assert [line.get("ok") for line in lines] == [True, True, None, False, False, None]
    assert lines[-1]["array"] == "a"  # the other is but a small share of the whole
    assert device_numbers.relative(np.array([np.nan]), np.ones(1)) == np.inf


def speeds(rate, fits, say, batches, **settings):
    """Of a side that needs no time, and whose memory ends behind `fits` images."""
    for batch in batches:
        if batch > fits:
            say(batch=batch, problem="out of memory")
            return
        line = dict(batch=batch, images_per_second=rate, least=rate, most=rate, mfu=0.4, flops_per_image=2e11)
        say(**line, peak_flops=9e14, peak_gigabytes=batch / 10, compile_seconds=20.0, losses=[9.5, 9.4])


def test_on_a_gpu_both_sides_take_turns_at_the_largest_batch_of_both(tmp_path):
    def broken(say, **settings):
        say(check="this one came before it failed", value=0.1, limit=1.0, ok=True)
        raise RuntimeError("no kernel image")

    here = Here(
        card=lambda say: say(**GPU),
        numbers=broken,
        resume=lambda say, folder, name: say(check=f"resume, {name}", value=0.5, limit=0.0, ok=name != "as it is"),
        ours=lambda say, **settings: speeds(1800.0, 512, say, **settings),
        theirs=lambda say, **settings: speeds(1500.0, 256, say, **settings),
        stream=lambda say, size, **settings: say(size=size, drawn=256, threads=32, workers=0, images_per_second=9000.0),
    )
    assert device.main(["--out", str(tmp_path)], here) == 1  # since a check of numbers failed
    jobs = found(tmp_path)
    steps = [job["name"] for job in jobs if job["part"] == "step"]
    turns = ["ours", "torch.compile", "ours, again", "torch.compile, again"]
    assert steps[:5] == [*turns, "images/s of ours over torch.compile"]
    assert {*device.VARIANTS, *device.FLAGS} <= {*steps}
    (ratio,) = (job["values"] for job in jobs if "over torch" in job["name"])
    assert ratio == {"batch": 256, "in each turn": [1.2, 1.2], "first losses apart": [0, 0]}
    assert jobs[1]["problem"] == "RuntimeError: no kernel image"
    assert jobs[1]["lines"][0]["ok"] is True
    of = {function: (settings, env) for function, settings, env, _ in here.jobs}
    assert of["device_parts:theirs"][0]["flops"] == 2e11
    assert of["device_parts:ours"][1]["XLA_FLAGS"].endswith(list(device.FLAGS.values())[-1])
    assert of["device_parts:stream"][1] == {"JAX_PLATFORMS": "cpu"}
    words = [settings["words"] for function, settings, _, _ in here.jobs if function == "device_parts:facerep"]
    assert [command[0] for command in words] == ["prepare", "pretrain", "evaluate"]
    config = parsed(words[1])
    assert (config.encoder.variant, config.encoder.image_size, config.data.batch_size) == ("S/16", 112, device.BATCH)
    assert 200 < config.steps < 5_000
    assert all(seconds <= 540 for *_, seconds in here.jobs)
    table = (tmp_path / "device.md").read_text()
    assert "| ours | 1024 | out of memory |" in table
    assert "| resume, as it is | 5.00e-01 | 0e+00 | **beyond** |" in table


def test_each_part_has_its_share_of_the_time_and_what_others_left(tmp_path):
    bundle = device.Bundle(tmp_path, tmp_path, 100, lambda job, heard: "")
    with bundle.within("numbers", 1.0):
        assert bundle.left == pytest.approx(100 * device.SHARES["numbers"], abs=1)
        raise ValueError("it went wrong")
    with bundle.within("faces", device.SHARES["faces"]):
        assert bundle.left == pytest.approx(100, abs=1)
        assert bundle.do("faces", "a long one", "nothing", least=200) == []
    over = "no time was left for it"
    assert [job["problem"] for job in found(tmp_path)] == ["ValueError: it went wrong", over]
    device.Bundle(tmp_path, tmp_path, 0, None).do("faces", "one that would never begin", "nothing")
    assert [job["problem"] for job in found(tmp_path)] == [over]


@pytest.mark.slow
def test_the_whole_as_it_is_typed(tmp_path):
    command = [sys.executable, "-m", "benchmarks.device", "--out", str(tmp_path), "--tiny", "--minutes=60"]
    done = subprocess.run(command, cwd=device.ROOT, capture_output=True, text=True, timeout=3600)
    assert done.returncode == 0, done.stderr
    jobs = found(tmp_path)
    assert not [job for job in jobs if job["problem"]], (tmp_path / "device.log").read_text()[-3000:]
    assert {"pre-trained", "random", "mean_shape"} <= set(jobs[-1]["values"])
