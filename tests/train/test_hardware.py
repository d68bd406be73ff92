"""What is said of devices before the first step: on stand-ins for the machines that are not at hand."""

import os
import stat
from types import SimpleNamespace

import pytest

from facerep_jax.train import hardware

A100, T4 = (
    SimpleNamespace(platform="gpu", compute_capability=c, device_kind=k) for c, k in (("8.0", "A"), ("7.5", "T4"))
)
V100 = SimpleNamespace(platform="gpu", compute_capability="7.0", device_kind="Tesla V100")
MI300 = SimpleNamespace(platform="gpu", compute_capability="gfx942", device_kind="MI300X")
V4 = SimpleNamespace(platform="tpu", device_kind="TPU v4")
CPU = SimpleNamespace(platform="cpu", device_kind="cpu")


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """Makes this machine one with an NVIDIA GPU, a driver and packages, on which jax runs on `found`."""
    for name in [name for name in os.environ if name.startswith(("CUDA_VIS", "XLA_CLIENT", "XLA_PYTHON"))]:
        monkeypatch.delenv(name)

    def make(found="cpu", driver="580.65.06", packages=(), error=None, platforms="", nvidia=True):
        installed = {"jaxlib": "0.10.2", **dict(packages)}
        (tmp_path / "version").write_text(
            f"NVRM version: NVIDIA UNIX x86_64 Kernel Module  {driver}  Mon Jan 1 1 UTC 2024"
        )

        def backend():
            if isinstance(error, Exception):
                raise error
            return found

        monkeypatch.setattr(hardware, "DRIVER", tmp_path / "version")
        monkeypatch.setattr(hardware, "version_of", lambda package: installed.get(package, ""))
        monkeypatch.setattr(hardware.hardware_utils, "has_visible_nvidia_gpu", lambda: nvidia)
        monkeypatch.setattr(hardware.xla_bridge, "_backend_errors", {"cuda": error} if isinstance(error, str) else {})
        monkeypatch.setattr(hardware.jax, "default_backend", backend)
        monkeypatch.setattr(hardware, "chosen", lambda: platforms)
        monkeypatch.setattr(hardware, "SMI", (str(tmp_path / "nvidia-smi"),))

    return make


TWELVE, THIRTEEN = {"jax-cuda12-plugin": "0.10.2"}, {"jax-cuda13-plugin": "0.10.2"}


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (dict(), "jax's plugin for CUDA is not installed: pip install 'facerep_jax[cuda13]'"),
        (dict(driver="535.104.05"), "jax's plugin for CUDA is not installed: pip install 'facerep_jax[cuda12]'"),
        (dict(driver="470.82.01"), "update the driver, which is 470: CUDA 12 needs 525"),
        (
            dict(driver="535.104.05", packages=THIRTEEN),
            "the plugin for CUDA 13 needs driver 580, and it is 535: pip install 'facerep_jax[cuda12]'",
        ),
        (dict(packages={**TWELVE, **THIRTEEN}), "the plugins for CUDA 12 and 13 are both installed"),
        (
            dict(packages={"jax-cuda12-plugin": "0.9.0"}),
            "jax-cuda12-plugin is of version 0.9.0 and jaxlib of 0.10.2: pip install",
        ),
        (dict(packages=THIRTEEN, error="CUDA_ERROR_OUT_OF_MEMORY"), "CUDA_ERROR_OUT_OF_MEMORY"),
    ],
)
def test_a_gpu_that_is_not_used_is_said_with_the_reason(machine, caplog, given, why):
    machine(**given)
    hardware.check()
    assert "this machine has an NVIDIA GPU, but jax runs on cpu: " in caplog.text
    assert why in caplog.text
    with pytest.raises(ValueError, match="insists on gpu, and jax runs on cpu: this machine") as error:
        hardware.check("gpu")
    assert why in str(error.value)


def test_other_chips_that_are_not_used_are_said(machine, monkeypatch):
    machine(nvidia=False)
    assert hardware.unused("cpu") == ""
    monkeypatch.setattr(hardware.hardware_utils, "num_available_tpu_chips_and_device_id", lambda: (4, 3))
    assert "this machine has a TPU" in hardware.unused("cpu")
    monkeypatch.setattr(hardware.hardware_utils, "num_available_amd_gpus", lambda stop_at: 1)
    assert "this machine has an AMD GPU" in hardware.unused("cpu")


@pytest.mark.parametrize("given", [dict(found="gpu"), dict(platforms="cpu"), dict(nvidia=False)])
def test_nothing_is_said_of_what_is_used_or_was_chosen(machine, caplog, given):
    machine(**given)
    hardware.check()
    assert caplog.text == ""


def test_a_gpu_that_is_hidden_was_chosen(machine, caplog, monkeypatch):
    machine()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    hardware.check()
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("wanted", "given", "message"),
    [
        ("gpu", dict(nvidia=False), "insists on gpu, and jax runs on cpu: there is none that"),
        ("gpu", dict(platforms="cpu", found="cpu"), "insists on gpu, and jax runs on cpu: JAX_PLATFORMS is cpu"),
        ("tpu", dict(found="gpu"), "insists on tpu, and jax runs on gpu: there is none"),
        ("cpu", dict(found="gpu"), "insists on cpu, and jax runs on gpu: JAX_PLATFORMS=cpu chooses it"),
        ("cuda", dict(), "operational.platform is gpu, tpu, cpu or empty, not 'cuda'"),
    ],
)
def test_another_platform_than_the_one_insisted_on_is_refused(machine, wanted, given, message):
    machine(**given)
    with pytest.raises(ValueError, match=message):
        hardware.check(wanted)


def test_a_jax_that_cannot_start_is_one_line(machine):
    machine(
        error=RuntimeError("Unable to initialize backend 'cuda': driver too old"), packages=THIRTEEN, driver="535.1"
    )
    with pytest.raises(ValueError, match=r"jax cannot start: Unable .*; .*plugin for CUDA 13 needs driver 580"):
        hardware.check()


def test_a_platform_that_was_chosen_and_is_not_there_is_one_line(machine):
    """jax fails by an assertion without a word then."""
    machine(error=AssertionError(), platforms="cuda", nvidia=False)
    with pytest.raises(ValueError, match=r"^jax cannot start: JAX_PLATFORMS is cuda$"):
        hardware.check()


@pytest.fixture
def smi(machine, tmp_path):
    """Stands for nvidia-smi on a machine of GPUs that use so many of 100 MiB."""

    def say(*used):
        machine(found="gpu")
        lines = [f"{index}, GPU-{index}abc, {mib}, 100" for index, mib in enumerate(used)]
        path = tmp_path / "nvidia-smi"
        path.write_text("#!/bin/sh\ncat <<EOF\n" + "\n".join(lines) + "\nEOF\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    return say


def test_a_gpu_that_others_use_is_said(smi, caplog):
    smi(0, 76, 25)
    hardware.check()
    assert [gpu.name for gpu in hardware.crowded()] == ["1"]
    assert "GPU 1: other commands use 76 % of its memory, and this one is to reserve 75 %" in caplog.text


@pytest.mark.parametrize(
    ("variables", "found"),
    [
        ({"CUDA_VISIBLE_DEVICES": "0"}, []),
        ({"CUDA_VISIBLE_DEVICES": "GPU-1a"}, ["1"]),
        ({"CUDA_VISIBLE_DEVICES": ""}, []),
        ({"XLA_CLIENT_MEM_FRACTION": "0.2"}, []),
        ({"XLA_PYTHON_CLIENT_MEM_FRACTION": "0.5"}, ["1"]),
        ({"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}, []),
    ],
)
def test_only_of_the_gpus_that_this_command_uses_and_the_share_that_it_takes(smi, monkeypatch, variables, found):
    smi(0, 76)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert [gpu.name for gpu in hardware.crowded()] == found


def test_not_of_those_that_other_processes_of_the_run_use(smi, monkeypatch):
    smi(0, 76)
    for own, found in (("0", []), ("1", ["1"]), ("0,1", ["1"])):
        monkeypatch.setattr(hardware.xla_bridge, "CUDA_VISIBLE_DEVICES", SimpleNamespace(value=own))
        assert [gpu.name for gpu in hardware.crowded()] == found


def test_without_nvidia_smi_nothing_is_known(machine):
    machine()
    assert hardware.crowded() == []


def test_commands_at_a_time_share_a_gpu(machine, monkeypatch):
    machine()
    assert hardware.share(1) == {}
    assert hardware.share(2) == {"XLA_CLIENT_MEM_FRACTION": "0.450"}
    monkeypatch.setenv("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.3")
    assert hardware.share(2) == {}


@pytest.mark.parametrize(
    ("device", "types", "said"),
    [
        (A100, ("bfloat16", "bfloat16"), ("", "")),
        (MI300, ("bfloat16", "bfloat16"), ("", "")),
        (V4, ("bfloat16", "bfloat16"), ("", "")),
        (T4, ("float32", "bfloat16"), ("dtype=auto is float32", "--config.dtype=float32 is faster")),
        (V100, ("float32", "bfloat16"), ("dtype=auto is float32", "--config.dtype=float32 is faster")),
        (CPU, ("float32", "bfloat16"), ("", "--config.dtype=float32 is faster")),
    ],
)
def test_bfloat16_where_there_are_no_units_for_it(monkeypatch, caplog, device, types, said):
    monkeypatch.setattr(hardware.jax, "devices", lambda: [device])
    for name, dtype, words in zip(("auto", "bfloat16"), types, said, strict=True):
        assert hardware.compute_dtype(name) == dtype
        caplog.clear()
        hardware.check_dtype(name)
        assert words in caplog.text if words else not caplog.text
    caplog.clear()
    hardware.check_dtype("float32")
    assert caplog.text == ""


def test_types_that_are_not_known_are_refused():
    with pytest.raises(ValueError, match="dtype is auto, float32 or bfloat16, not 'float16'"):
        hardware.compute_dtype("float16")
