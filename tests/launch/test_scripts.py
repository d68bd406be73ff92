"""What the scripts of launch/ run, and how they take signals and statuses; `facerep` and clusters are stand-ins here.

Planted and seen red: a requeue whatever the status, `srun` with one CPU a task, no `exec` in the entrypoint, a status
of the last process instead of the one that failed.
"""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LAUNCH = ROOT / "launch"
SCRIPTS = sorted([*LAUNCH.glob("*.sh"), LAUNCH / "slurm.sbatch"])
ENVIRONMENTS = sorted(LAUNCH.glob("env/*.env"))
FLAGS = ("--config", "configs/pretrain/farl.py:variant=B/16", "--workdir", "runs/my run")
TPU = ("--image=I", "--accelerator=tpu-v5-lite-podslice", "--topology=4x4", "--claim=runs", "--", *FLAGS)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with launch/ and without .venv, where `stand_in` gives commands that note their arguments in `ran`."""
    shutil.copytree(LAUNCH, tmp_path / "launch")
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    for name in [name for name in os.environ if name.startswith(("SLURM_", "FACEREP_ENV", "LIBTPU_"))]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def stand_in(place: Path, *names: str, does: str = "") -> None:
    for name in names:
        path = place / "bin" / name
        path.write_text(f'#!/usr/bin/env bash\nprintf -v line "%q " {name} "$@"; echo "$line" >> {place}/ran\n{does}\n')
        path.chmod(0o755)


def ran(place: Path) -> list[list[str]]:
    path = place / "ran"
    return [shlex.split(line) for line in path.read_text().splitlines()] if path.exists() else []


def launch(*argv: str, **variables: object) -> tuple[int, list[list[str]], str]:
    environment = {**os.environ, **{name: str(value) for name, value in variables.items()}}
    done = subprocess.run(["bash", *argv], env=environment, capture_output=True, text=True, timeout=60)
    return done.returncode, [shlex.split(line) for line in done.stdout.splitlines()], done.stderr


def test_shellcheck_has_nothing_to_say():
    found = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if not found:
        pytest.skip("no shellcheck: it is among the packages of requirements/")
    done = subprocess.run([found, *SCRIPTS, *ENVIRONMENTS], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_scripts_can_be_executed():
    assert [path.name for path in SCRIPTS if not os.access(path, os.X_OK)] == []


@pytest.mark.parametrize(
    "argv",
    [
        ("local.sh", "--dry-run", *FLAGS),
        ("slurm.sbatch", "--dry-run", *FLAGS),
        ("gke.sh", "--dry-run", "farl", *TPU),
        *(("tpu_vm.sh", "--dry-run", action, "farl") for action in ("setup", "logs", "stop", "status", "delete")),
        ("tpu_vm.sh", "--dry-run", "create", "farl", "--type=v4-8"),
        ("tpu_vm.sh", "--dry-run", "run", "farl", "--", *FLAGS),
    ],
    ids=lambda argv: "_".join(argv[:3:2]),
)
def test_a_dry_run_prints_and_runs_nothing(place, argv):
    stand_in(place, "facerep", "srun", "scontrol", "gcloud", "kubectl", "git")
    status, printed, error = launch(f"launch/{argv[0]}", *argv[1:])
    assert (status, error) == (0, "")
    assert printed
    assert ran(place) == []


# --- this machine


def test_local_starts_a_run_again_as_long_as_it_saves(place):
    stand_in(place, "facerep", does=f"[[ $(wc -l < {place}/ran) -lt 3 ]] && exit 75; exit 0")
    status, _, _ = launch("launch/local.sh", *FLAGS)
    assert status == 0
    assert ran(place) == [["facerep", "pretrain", *FLAGS]] * 3


@pytest.mark.parametrize("status", [0, 1, 2, 143])
def test_local_ends_with_any_other_status(place, status):
    stand_in(place, "facerep", does=f"exit {status}")
    assert launch("launch/local.sh", *FLAGS)[0] == status
    assert len(ran(place)) == 1


WAITS = "trap 'sleep 0.2; exit 75' TERM; touch ready.$BASHPID; while :; do sleep 0.05; done"  # 0.2 s for a save


@pytest.mark.parametrize("split", [1, 2])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_local_passes_a_signal_on_and_ends_after_the_save(place, split, number):
    stand_in(place, "facerep", does=WAITS)
    process = subprocess.Popen(["bash", "launch/local.sh", f"--split={split}", *FLAGS])
    deadline = time.monotonic() + 30
    while len(list(place.glob("ready.*"))) < split:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(number)
    assert process.wait(30) == 75
    assert len(ran(place)) == split


def test_local_splits_a_run_into_processes_that_find_each_other(place):
    stand_in(place, "facerep", does="[[ $JAX_PLATFORMS == cpu ]] || exit 9; [[ ${*: -1} != --process=1 ]] || exit 3")
    status, _, _ = launch("launch/local.sh", "--split=3", *FLAGS)
    assert status == 3  # that of the one that failed
    commands = sorted(ran(place))
    assert [command[:-3] for command in commands] == [["facerep", "pretrain", *FLAGS]] * 3
    assert [command[-2:] for command in commands] == [["--processes=3", f"--process={index}"] for index in range(3)]
    (coordinator,) = {command[-3] for command in commands}
    assert re.fullmatch(r"--coordinator=127\.0\.0\.1:\d{5}", coordinator)


# --- SLURM

NODES = dict(SLURM_JOB_ID=17, SLURM_JOB_NUM_NODES=4, SLURM_CPUS_ON_NODE=96, SLURM_GPUS_ON_NODE=8)


@pytest.mark.parametrize(("option", "tasks"), [((), 1), (("--per-gpu",), 8)])
def test_slurm_starts_one_task_for_each_node_or_gpu_with_all_cpus(place, option, tasks):
    status, (command,), _ = launch("launch/slurm.sbatch", "--dry-run", *option, *FLAGS, **NODES)
    assert status == 0
    begins = command.index("facerep")
    assert command[begins:] == ["facerep", "pretrain", *FLAGS]
    shape = {f"--ntasks={4 * tasks}", f"--ntasks-per-node={tasks}", f"--cpus-per-task={96 // tasks}"}
    assert {"srun", *shape, "--kill-on-bad-exit=0"} <= {*command[:begins]}


@pytest.mark.parametrize("status", [0, 1, 2, 75, 137])
def test_slurm_requeues_what_saved_and_nothing_else(place, status):
    stand_in(place, "srun", does=f"exit {status}")
    stand_in(place, "scontrol")
    assert launch("launch/slurm.sbatch", *FLAGS, **NODES)[0] == status
    assert ran(place)[1:] == ([["scontrol", "requeue", "17"]] if status == 75 else [])


def test_slurm_asks_for_a_signal_in_time_and_a_requeue():
    options = re.findall(r"^#SBATCH (\S+)$", (LAUNCH / "slurm.sbatch").read_text(), re.MULTILINE)
    assert {"--requeue", "--signal=USR1@120", "--open-mode=append", "--exclusive"} <= {*options}


def test_slurm_reads_the_environment_of_the_folder_it_was_submitted_from(place, tmp_path):
    stand_in(place, "srun", does=f"echo $XLA_FLAGS > {place}/flags")
    copy = tmp_path / "spool" / "slurm_script"
    copy.parent.mkdir()
    shutil.copy(place / "launch" / "slurm.sbatch", copy)
    status, _, error = launch(str(copy), "--env=gpu", *FLAGS, SLURM_SUBMIT_DIR=place, **NODES)
    assert (status, error) == (0, "")
    assert "latency_hiding_scheduler" in (place / "flags").read_text()


# --- TPU VMs and containers


@pytest.mark.parametrize(
    ("options", "command"),
    [
        ((), "tpu-vm create farl --accelerator-type=v5litepod-16 --version=v2-alpha-tpuv5-lite --zone=Z"),
        (
            ("--spot",),
            "tpu-vm create farl --accelerator-type=v5litepod-16 --version=v2-alpha-tpuv5-lite --spot --zone=Z",
        ),
        (
            ("--spot", "--queued"),
            "queued-resources create farl --node-id=farl --accelerator-type=v5litepod-16 "
            "--runtime-version=v2-alpha-tpuv5-lite --spot --zone=Z",
        ),
    ],
)
def test_tpu_vm_creates(place, options, command):
    stand_in(place, "gcloud")
    assert launch("launch/tpu_vm.sh", "create", "farl", "--zone=Z", "--type=v5litepod-16", *options)[0] == 0
    assert ran(place) == [["gcloud", "compute", "tpus", *command.split()]]


def test_tpu_vm_runs_on_all_workers_and_the_flags_arrive_as_they_were(place):
    """The stand-in does what each worker does: it runs the command in a home folder."""
    home = place / "home"
    shutil.copytree(place / "launch", home / "facerep_jax" / "launch")
    stand_in(
        place, "gcloud", does='for word; do [[ $word == --command=* ]] && cd ~ && bash -c "${word#*=}"; done; true'
    )
    stand_in(place, "facerep", does=WAITS)
    status, _, error = launch("launch/tpu_vm.sh", "run", "farl", "--env=v5e", "--", *FLAGS, HOME=home)
    assert (status, error) == (0, "")
    deadline = time.monotonic() + 30
    while not list(home.glob("facerep_jax/ready.*")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    ((*gcloud, _), facerep) = ran(place)
    assert gcloud == ["gcloud", "compute", "tpus", "tpu-vm", "ssh", "farl", "--worker=all"]
    assert facerep == ["facerep", "pretrain", *FLAGS]
    assert launch("launch/tpu_vm.sh", "stop", "farl", HOME=home)[0] == 0
    number = int((home / "facerep_jax" / "run.pid").read_text())
    while Path(f"/proc/{number}").exists() and "Z" not in Path(f"/proc/{number}/stat").read_text().split()[2]:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_container_gives_its_place_to_facerep_with_the_environment(place):
    stand_in(place, "facerep", does='trap "exit 75" TERM; echo "$$ $LIBTPU_INIT_ARGS"; while :; do sleep 0.05; done')
    environment = {**os.environ, "FACEREP_ENV": "v6e"}
    argv = ["launch/entrypoint.sh", "pretrain", *FLAGS]
    with subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE, text=True) as process:
        number, flags = process.stdout.readline().split(maxsplit=1)
        process.terminate()
    assert process.returncode == 75
    assert int(number) == process.pid  # so that signals reach it
    assert "--xla_tpu_scoped_vmem_limit_kib=98304" in flags
    assert ran(place) == [["facerep", "pretrain", *FLAGS]]


# --- bad input


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("local.sh", "--split=0"), "local.sh: --split is a number above 0, not '0'"),
        (("local.sh", "--env=gqu"), "env/gqu.env: No such file"),
        (("slurm.sbatch", "--per-gpu"), "slurm.sbatch: --per-gpu needs GPUs: sbatch --gpus-per-node=8"),
        (("tpu_vm.sh", "create"), "create|setup|run|logs|stop|status|delete NAME"),
        (("tpu_vm.sh", "create", "farl"), "create needs --type, such as"),
        (("tpu_vm.sh", "create", "farl", "--tpye=v4-8"), "no option '--tpye=v4-8'"),
        (("tpu_vm.sh", "run", "farl"), "run needs the flags of facerep pretrain after --"),
        (("tpu_vm.sh", "start", "farl"), "no command 'start'; known: create, setup"),
        (("gke.sh", "Farl"), "NAME has small letters, digits and dashes"),
        (("gke.sh", "farl", "--image=I"), "the flags of facerep pretrain are missing, after --"),
        (("gke.sh", "farl", "--image=I", "--", "x"), "--accelerator is missing"),
        (("gke.sh", "farl", "--slices=two", *TPU), "--slices is a number, not 'two'"),
        (("gke.sh", "farl", "--env=v7", *TPU), "no file launch/env/v7.env"),
        (("gke.sh", "farl", "--chips=3", *TPU), "the 16 chips of 4x4 are no multiple of the 3 of a host"),
    ],
)
def test_bad_input_is_one_line_and_status_2(place, argv, message):
    stand_in(place, "facerep", "srun", "scontrol", "gcloud", "kubectl", "git")
    status, printed, error = launch(f"launch/{argv[0]}", *argv[1:])
    assert (status, printed) == (2, [])
    assert message in error
    assert len(error.splitlines()) == 1
    assert ran(place) == []


# --- flags of XLA


def test_flags_of_xla_are_in_files_of_their_own_and_no_module():
    sources = [*ROOT.glob("facerep_jax/**/*.py"), *ROOT.glob("configs/**/*.py")]
    assert [path for path in sources if re.search(r"--xla_\w+", path.read_text())] == []


@pytest.mark.parametrize(("flag", "known"), [("", True), ("--xla_gpu_no_such_flag=true", False)])
def test_jaxlib_knows_the_flags_for_gpus(flag, known):
    """Each of `XLA_FLAGS` must be known, or jax does not start; on CPUs it reads those for GPUs, too."""
    script = (
        f'XLA_FLAGS={flag}; . launch/env/gpu.env; exec {shlex.quote(sys.executable)} -c "import jax; jax.devices()"'
    )
    done = subprocess.run(["bash", "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (done.returncode == 0) == known, done.stderr
    assert ("Unknown flag" in done.stderr) != known
