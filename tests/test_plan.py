"""A plan of a tiny run against its shapes and against arithmetic; with libtpu, the slow test, against its compiler."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from ml_collections import ConfigDict

from facerep_jax import cli, plan
from facerep_jax.train.chips import CHIPS

ROOT = Path(__file__).parents[1]
TINY = "tests/train/tiny_config.py"


def planned(*argv: str, **variables: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "facerep_jax.cli", "plan", *argv],
        cwd=ROOT,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=500,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def of_gpus(tmp_path_factory):
    """The plan of a run on GPUs that no process here has: its text and its JSON."""
    path = tmp_path_factory.mktemp("plan") / "plan.json"
    flags = (f"--config={TINY}", "--config.data.dataset=manifest/not_here", "--config.ema=0.9", "--price=2")
    status, out, err = planned(*flags, "--topology=H100:16", f"--json={path}")
    assert (status, err) == (0, "")
    return out, json.loads(path.read_text())


def test_a_plan_needs_neither_the_chips_nor_the_data(of_gpus):
    out, found = of_gpus
    assert out.startswith("H100:16: 16 of NVIDIA H100 on 2 hosts, mesh {'replica': 1, 'fsdp': 16, 'model': 1}")
    assert "nothing known is against it" in out
    assert "only TPUs are compiled for" in out
    assert "figures of chips recalled, nothing measured" in out
    assert (found["chips"], found["hosts"], found["dtype"]) == (16, 2, "bfloat16")


def test_a_compiler_that_crashes_leaves_the_rest_of_the_plan(monkeypatch):
    def run(argv, *, env, capture_output, text):
        Path(env[plan.CHILD]).write_text('{"flops": 1}')
        return subprocess.CompletedProcess(argv, -11, "", "RAW: Raising signal 11 with default behavior")

    monkeypatch.setattr(plan.subprocess, "run", run)
    assert plan.in_child([], 4) == {"flops": 1, "compiled": {"error": "the compiler crashed (SIGSEGV)"}}


def test_its_memory_is_that_of_the_state(of_gpus):
    """Adam keeps two numbers for each parameter, and its counts."""
    memory, parameters = of_gpus[1]["memory"], of_gpus[1]["parameters"]
    assert memory["parameters"] == memory["gradients"] == 4 * parameters
    assert 8 * parameters <= memory["optimizer"] <= 8 * parameters + 64
    assert memory["average"] >= 4 * parameters
    assert memory["batch"] == 12 * 12 * 3 + 4  # of 16 images on 16 chips, and a position


def test_its_times_are_arithmetic(of_gpus):
    found = of_gpus[1]
    assert found["times"]["products"] == pytest.approx(found["flops"] / (16 * 989e12 * 0.4))
    assert found["seconds_per_step"] == max(found["times"].values())
    assert found["hours"] == pytest.approx(found["seconds_per_step"] * 12 / 3600)
    assert found["cost"] == pytest.approx(2 * 16 * found["hours"])
    assert found["images_per_second_per_host"] == pytest.approx(16 / found["seconds_per_step"] / 2)


FOUND = dict(
    parameters=1000,
    flops=4e15,
    mesh={"replica": 1, "fsdp": 4, "model": 1},
    memory=dict(parameters=2**30, optimizer=2**31, average=0, gradients=2**30),
)
CONFIG = ConfigDict(dict(steps=100, data=dict(batch_size=64)))


def line(found, chip="v5e", chips=16, config=CONFIG):
    return plan.roofline(found, CHIPS[chip], chips, config, 0.5, 0.0)


@pytest.mark.parametrize(
    ("found", "fits"),
    [
        (FOUND, None),
        (FOUND | {"memory": FOUND["memory"] | {"average": 2**34}}, False),
        (FOUND | {"compiled": dict(arguments=2**30, temporaries=2**33, results=0, collectives={})}, True),
        (FOUND | {"compiled": dict(arguments=2**30, temporaries=2**34, results=0, collectives={})}, False),
        (FOUND | {"compiled": {"error": "RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm"}}, False),
        (FOUND | {"compiled": {"error": "INTERNAL: it broke"}}, None),
    ],
)
def test_what_fits_is_said_only_where_it_is_known(found, fits):
    assert line(found)["fits"] is fits


@pytest.mark.parametrize(("average", "cure"), [(2**34, "sharding=fsdp"), (0, "remat=nothing_saveable")])
def test_what_does_not_fit_is_said_with_what_to_try(average, cure):
    refused = {"compiled": {"error": "RESOURCE_EXHAUSTED"}}
    found = FOUND | refused | {"memory": FOUND["memory"] | {"average": average}, "dtype": "bfloat16"}
    text = plan.lines(found | line(found) | {"topology": "v5e:4x4", "chips": 16}, CHIPS["v5e"])
    assert cure in text[-1]
    assert text[-1].startswith("try ")


@pytest.mark.parametrize(
    ("temporaries", "before", "cure"), [(2**34, 1, 2), (2**36, 1, 8), (2**34, 4, 8), (2**34, 16, 0)]
)
def test_micro_batches_that_should_fit_divide_a_chips_examples(temporaries, before, cure):
    """Of 16 on each chip, whose room for temporaries is 14.2 GiB; where each is one example, there are no more."""
    found = FOUND | {"compiled": dict(arguments=2**30, temporaries=temporaries, results=0, collectives={}, flops=1)}
    config = ConfigDict(dict(steps=100, data=dict(batch_size=64, micro_batches=before)))
    more = {"dtype": "bfloat16", "topology": "v5e:4x4", "chips": 16}
    text = plan.lines(found | line(found, config=config) | more, CHIPS["v5e"])
    assert (f"micro_batches={cure} " in text[-1]) == (cure > 0)
    assert "remat=nothing_saveable" in text[-1]


def test_micro_batches_look_twice_and_sum_gradients_each():
    config = ConfigDict(dict(steps=100, data=dict(batch_size=64, micro_batches=4)))
    once, four = line(FOUND)["times"], line(FOUND, config=config)["times"]
    assert four["products"] == pytest.approx(4 / 3 * once["products"])
    assert four["network"] == pytest.approx(4 * once["network"])


def test_what_is_computed_again_is_said():
    compiled = {"compiled": dict(arguments=1, temporaries=1, results=0, collectives={}, flops=4e14)}
    found = FOUND | compiled | {"dtype": "bfloat16"}
    text = plan.lines(found | line(found) | {"topology": "v5e:4x4", "chips": 16}, CHIPS["v5e"])
    assert "computed    1.60 times the operations of the step, with what is computed again" in text


def test_the_longest_of_three_times_is_that_of_a_step():
    assert line(FOUND)["times"]["products"] == pytest.approx(4e15 / (16 * 197e12 * 0.5))
    sent = {"all-reduce": 10**12, "all-gather": 10**12}
    compiled = FOUND | {"compiled": dict(arguments=1, temporaries=1, results=0, collectives=sent)}
    assert line(compiled)["seconds_per_step"] == pytest.approx(3e12 / 200e9)
    assert line(compiled, "H100", 8)["times"]["network"] == pytest.approx(3e12 / 450e9)  # within a host
    assert line(compiled, "H100", 16)["times"]["network"] == pytest.approx(3e12 / 50e9)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("--topology=v7:2x2",), "no chip 'v7'"),
        (("--topology=H100:8", "--efficiency=2"), "efficiency"),
        (("--topology=H100:8", "word"), "plan takes flags only, but got 'word'"),
        ((), "--topology"),
    ],
)
def test_bad_input_is_one_line(capsys, argv, message):
    assert cli.main(["facerep", "plan", f"--config={TINY}", *argv]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert len(err.splitlines()) == 1


def test_a_batch_that_cannot_be_split_over_the_chips_is_one_line():
    status, out, err = planned(f"--config={TINY}", "--topology=H100:12")
    assert (status, out) == (2, "")
    assert err == (
        "facerep plan: data.batch_size 16 is not divisible by the 12 devices that the batch is split over; "
        "the nearest that is: 12\n"
    )


@pytest.mark.slow
@pytest.mark.tpu
@pytest.mark.parametrize(("topology", "devices"), [("v5e:4x4", 16), ("v4:2x2x2", 8)])
def test_a_tpus_compiler_is_asked_where_libtpu_is_installed(tmp_path, topology, devices):
    packages = ROOT / ".cache" / "tools" / "libtpu" / "lib" / "python3.11" / "site-packages"
    if importlib.util.find_spec("libtpu") is None and not packages.exists():
        pytest.skip("no libtpu: pip install 'facerep_jax[tpu]', or run tests/launch/test_manifests.py first")
    beside = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(packages)]))
    path = tmp_path / "plan.json"
    flags = (f"--config={TINY}", f"--topology={topology}", f"--json={path}")
    status, out, err = planned(*flags, "--config.data.batch_size=64", PYTHONPATH=beside)
    assert (status, err) == (0, "")
    found = json.loads(path.read_text())
    assert found["mesh"]["fsdp"] == devices
    compiled = found["compiled"]
    state = sum(found["memory"][kind] for kind in ("parameters", "optimizer", "variables", "batch"))
    assert state <= compiled["arguments"] < 2 * state + 2**20  # tiles are padded
    assert compiled["collectives"]["all-reduce"] >= 2 * found["parameters"]  # gradients, in bfloat16 at least
    assert found["flops"] <= compiled["flops"] * devices < 1.5 * found["flops"]
    assert found["fits"] is True
    assert "fits:" in out
