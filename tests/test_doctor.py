"""What is said of a machine and of what a config needs of it: on this one, and on stand-ins for others."""

import errno
import fcntl
import os
from types import SimpleNamespace

import pytest

from facerep_jax import cli, doctor
from facerep_jax.train import clusters, hardware

TINY = "tests/train/tiny_config.py"


@pytest.fixture(autouse=True)
def no_launcher(monkeypatch):
    for name in [name for name in os.environ if name.startswith(("SLURM", "OMPI", "PMI", "KUBERNETES", "CUDA_VIS"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # which it would set
    monkeypatch.setattr(doctor, "WRITTEN", 2**16)


@pytest.fixture
def facerep(capsys):
    """Runs `facerep doctor`; gives its status, what is here by subject, and what does not fit."""

    def run(*argv):
        status = cli.main(["facerep", "doctor", *map(str, argv)])
        out, err = capsys.readouterr()
        assert err == ""
        here, _, problems = out.partition("\n\n")
        subjects = {line.split()[0]: line.partition(" ")[2].strip() for line in here.splitlines()}
        return status, subjects, problems.splitlines()[1:]

    return run


def test_what_is_here_of_this_machine(facerep, tmp_path):
    status, here, problems = facerep("--config", TINY, "--workdir", tmp_path / "run")
    assert (status, problems) == (0, [])
    assert set(here) == {"versions", "machine", "workdir", "processes", "devices", "data", "config"}
    assert "jaxlib" in here["versions"]
    assert here["workdir"].startswith(f"{tmp_path}: ")
    assert "locks: flock, fcntl" in here["workdir"]
    assert here["devices"] == "8 of cpu, cpu"
    assert here["data"].endswith("64 in train")
    assert here["config"].startswith("batch 16 on mesh {'replica': 1, 'fsdp': 8, 'model': 1}")
    assert list(tmp_path.iterdir()) == []


def test_without_a_config_it_speaks_of_the_machine_alone(facerep):
    assert set(facerep()[1]) == {"versions", "machine", "folder", "processes", "devices"}


@pytest.mark.parametrize(
    ("flag", "problem"),
    [
        ("--config.data.batch_size=12", "batch_size 12 is not divisible by the 8 devices"),
        ("--config.mesh.model=3", "does not hold the 8 devices here"),
        ("--config.dtype=bfloat16", "cpu has no units for bfloat16: --config.dtype=float32"),
        ("--config.operational.platform=gpu", "insists on gpu, and jax runs on cpu"),
        ("--config.operational.processes=4", "expects 4 processes and 1 would appear: start it by srun"),
        ("--config.data.dataset=manifest/faces", "'manifest/faces' is not prepared in data; run: facerep prepare"),
    ],
)
def test_each_thing_that_does_not_fit_is_one_line_with_its_cure(facerep, flag, problem):
    status, _, problems = facerep("--config", TINY, flag)
    assert status == 1
    (line,) = problems
    assert problem in line


def test_all_that_does_not_fit_is_said_at_once(facerep):
    flags = ("--config.dtype=bfloat16", "--config.operational.processes=2", "--config.data.batch_size=12")
    _, here, problems = facerep("--config", TINY, *flags)
    assert len(problems) == 3
    assert here["config"] == "does not fit"


@pytest.mark.parametrize("missing", ["flock", "lockf"])
def test_a_folder_without_locks(monkeypatch, tmp_path, missing):
    def fail(file, how):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, missing, fail)
    (problem,) = doctor.of_folder("--workdir", tmp_path).problems
    name = {"flock": "flock", "lockf": "fcntl"}[missing]
    assert f"has no locks of {name}: mount it with them (Lustre: -o flock" in problem
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("ahead", "words"), [(0.5, ""), (90, "90 s ahead of"), (-90, "90 s behind")])
def test_a_file_server_with_another_clock(monkeypatch, tmp_path, ahead, words):
    really = doctor.time.time
    monkeypatch.setattr(doctor, "time", SimpleNamespace(time=lambda: really() - ahead, monotonic=doctor.time.monotonic))
    problems = doctor.of_folder("--workdir", tmp_path).problems
    assert bool(problems) == bool(words)
    assert words in "".join(problems)


def test_a_disk_that_is_too_small_for_checkpoints(facerep, monkeypatch, tmp_path):
    usage = SimpleNamespace(total=2**20, used=2**20, free=0)
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: usage)
    status, _, (problem,) = facerep("--config", TINY, "--workdir", tmp_path)
    assert status == 1
    assert problem.startswith("3 checkpoints and one that is being written need")
    assert problem.endswith("--config.operational.keep_checkpoints=2")


@pytest.mark.parametrize(
    ("variables", "seen", "problem"),
    [
        ({"CUDA_VISIBLE_DEVICES": "3"}, 1, "1 of the 8 GPUs of this machine are seen: CUDA_VISIBLE_DEVICES=3 hides"),
        ({"SLURM_JOB_ID": "1", "SLURM_STEP_TASKS_PER_NODE": "1"}, 1, "one task for each node sees all with"),
        ({"SLURM_JOB_ID": "1", "SLURM_STEP_TASKS_PER_NODE": "8(x2)", "SLURM_NODEID": "1"}, 1, ""),
        ({"OMPI_COMM_WORLD_LOCAL_SIZE": "2"}, 4, ""),
        ({}, 8, ""),
    ],
)
def test_one_gpu_of_eight(monkeypatch, variables, seen, problem):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(clusters, "gpus_of_machine", lambda: 8)
    monkeypatch.setattr(doctor.jax, "default_backend", lambda: "gpu")
    said = doctor.hidden_gpus(seen)
    assert bool(said) == bool(problem)
    assert problem in said


def test_a_gpu_that_is_not_used(facerep, monkeypatch):
    why = "this machine has an NVIDIA GPU, but jax runs on cpu: the plugin for CUDA 13 needs driver 580"
    monkeypatch.setattr(hardware, "unused", lambda found: why)
    assert facerep()[0::2] == (1, [why])


def test_a_jax_that_does_not_start_ends_the_look(facerep, monkeypatch):
    def fail():
        raise RuntimeError("Unable to initialize backend 'cuda'")

    monkeypatch.setattr(hardware.jax, "default_backend", fail)
    status, here, (problem,) = facerep("--config", TINY)
    assert (status, here["devices"]) == (1, "none")
    assert problem.startswith("jax cannot start: Unable to initialize backend 'cuda'")


def test_a_process_of_several_says_which_it_would_be(facerep, monkeypatch):
    monkeypatch.setattr(clusters, "found", lambda: clusters.Place("SLURM", "localhost:61440", 16, 11, range(3, 4)))
    status, here, problems = facerep("--config", TINY)
    assert (status, problems) == (0, [])
    assert here["processes"] == "11 of 16 by SLURM, to meet at localhost:61440; its GPUs 3"
    assert "when all processes have met" in here["config"]


def test_a_first_process_whose_name_is_not_known(facerep, monkeypatch):
    monkeypatch.setattr(clusters, "found", lambda: clusters.Place("SLURM", "node1.invalid:61440", 2, 1))
    status, _, (problem,) = facerep()
    assert status == 1
    assert "this machine does not know node1.invalid" in problem
    assert "export JAX_COORDINATOR_ADDRESS" in problem


def test_a_launcher_that_tells_too_little(facerep, monkeypatch):
    monkeypatch.setenv("PMI_SIZE", "2")
    status, here, (problem,) = facerep()
    assert (status, here["processes"]) == (1, "unknown")
    assert "mpirun started 2 processes" in problem


def test_one_core_of_many(monkeypatch):
    monkeypatch.setattr(doctor, "usable_cores", lambda: 1)
    monkeypatch.setattr(doctor.os, "cpu_count", lambda: 96)
    assert "1 of 96 cores is too few" in doctor.host().problems[0]
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    assert doctor.host().problems[0].endswith("srun --cpus-per-task=N")


def test_a_config_of_another_command_and_a_word(capsys):
    for argv in (("--config", "configs/evaluate/landmarks.py"), ("here",)):
        assert cli.main(["facerep", "doctor", *argv]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
