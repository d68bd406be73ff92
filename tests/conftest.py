"""Eight fake CPU devices, one compilation cache shared with child processes, and shape checks on every call."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

CACHE = Path(__file__).parent.parent / ".cache" / "jax"
os.environ["JAX_PLATFORMS"] = os.environ.get("FACEREP_PLATFORMS", "cpu")  # for tests marked gpu: cuda,cpu
# Most programs run a few times on a few numbers, so that to optimise them well costs more than it saves.
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=1"
os.environ["JAX_COMPILATION_CACHE_DIR"] = str(CACHE)
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
os.environ["TQDM_DISABLE"] = "1"

for ignored in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):  # as nohup has it, which runs would take over
    signal.signal(ignored, signal.SIG_DFL)

import filelock
import jax
import numpy as np
import pytest
from absl import flags
from flax import nnx
from jaxtyping import install_import_hook

jax.config.update("jax_numpy_rank_promotion", "raise")
flags.FLAGS.mark_as_parsed()  # grain's workers read absl's flags
PACKAGE = Path(__file__).parent.parent / "facerep_jax"
# Called for every position of the data, or thousands of times for a face, so that checks took most of the time; drawn
# faces have theirs in tests/face_world/test_types.py.
UNCHECKED = (PACKAGE / "face_world", PACKAGE / "data" / "mixture.py")


def checked() -> Iterator[str]:
    """All other modules; a name stands for all below it, so that packages around what is unchecked are left out."""
    for path in PACKAGE.rglob("*.py"):
        module = path.parent if path.stem == "__init__" else path
        if not any(unchecked in (module, *module.parents) or module in unchecked.parents for unchecked in UNCHECKED):
            yield ".".join(module.relative_to(PACKAGE.parent).with_suffix("").parts)


install_import_hook(sorted(checked()), "beartype.beartype")


# Files whose tests take minutes: they go first, the longest before all, so that no core waits at the end.
MINUTES = ("pretrain", "demo", "evaluate", "study", "replay", "multihost", "recognition", "mcf_like", "step")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def place(item: pytest.Item) -> int:
        name = item.path.stem.removeprefix("test_")
        return MINUTES.index(name) if name in MINUTES else len(MINUTES)

    items.sort(key=place)


@pytest.fixture(autouse=True)
def nothing_is_left_running():
    """Processes of a test that failed would slow down those that follow, and be blamed on them."""
    yield
    if "tests.processes" in sys.modules:
        sys.modules["tests.processes"].end_all()


@pytest.fixture
def real_faces() -> Path:
    """The folder of a manifest of real faces, where one is at hand."""
    folder = os.environ.get("FACEREP_FACES")
    if not folder:
        pytest.skip("FACEREP_FACES is not set")
    return Path(folder).resolve()


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory) -> Path:
    """A run of FaRL that others are compared with: of one process, that nobody disturbed. Tests write nothing there."""
    return left_alone(tmp_path_factory, "SMOKE")


@pytest.fixture(scope="session")
def undisturbed_tiny(tmp_path_factory) -> Path:
    """The like of a network that compiles in a second."""
    return left_alone(tmp_path_factory, "TINY")


def left_alone(tmp_path_factory, config: str) -> Path:
    """The run of a config of tests.processes; workers of one session share it."""
    from tests import processes

    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    workdir, done = shared / f"undisturbed_{config}", shared / f"undisturbed_{config}.done"
    with filelock.FileLock(f"{workdir}.lock"):
        if not done.exists():
            flags = (f"--config={getattr(processes, config)}", *processes.FLAGS)
            status, output = processes.here("pretrain", workdir, *flags)
            assert status == 0, output
            done.touch()
    return workdir


class Reference:
    """CLIP's transformer in NumPy and float64, written from its definition (farl.md 1.2)."""

    @staticmethod
    def randomised(module, seed=0):
        """The module with every parameter drawn anew: at their start, biases and scales would hide mistakes."""
        rng = np.random.default_rng(seed)
        for path, variable in nnx.to_flat_state(nnx.state(module, nnx.Param)):
            centre = 1.0 if path[-1] == "scale" else 0.0
            variable.set_value(jax.numpy.asarray(rng.normal(centre, 0.3, variable.shape), jax.numpy.float32))
        return module

    @staticmethod
    def params(module):
        """The module's parameters as a nested dict of float64 arrays."""
        return jax.tree.map(lambda x: np.asarray(x, np.float64), nnx.to_pure_dict(nnx.state(module, nnx.Param)))

    @staticmethod
    def quick_gelu(x):
        return x / (1 + np.exp(-1.702 * x))

    @staticmethod
    def norm(p, x, eps=1e-5):
        deviation = np.sqrt(x.var(-1, keepdims=True) + eps)
        return (x - x.mean(-1, keepdims=True)) / deviation * p["scale"] + p["bias"]

    @staticmethod
    def linear(p, x):
        return x @ p["kernel"] + p["bias"]

    @classmethod
    def blocks(cls, stacked, x, heads, causal=False, activation=quick_gelu, eps=1e-5):
        """What each of the stacked blocks leaves behind."""
        layers = []
        for index in range(len(stacked["out"]["bias"])):
            p = jax.tree.map(lambda leaf, index=index: leaf[index], stacked)
            q, k, v = (cls.linear(p[name], cls.norm(p["attention_norm"], x, eps)) for name in ("query", "key", "value"))
            attended = np.zeros_like(x)
            for part in np.split(np.arange(x.shape[-1]), heads):
                logits = q[..., part] @ k[..., part].swapaxes(1, 2) / np.sqrt(len(part))
                if causal:
                    logits[:, np.triu(np.ones(logits.shape[1:], bool), 1)] = -np.inf
                share = np.exp(logits - logits.max(-1, keepdims=True))
                attended[..., part] = share / share.sum(-1, keepdims=True) @ v[..., part]
            x = x + cls.linear(p["out"], attended)
            y = cls.linear(p["up"], cls.norm(p["mlp_norm"], x, eps))
            x = x + cls.linear(p["down"], activation(y))
            layers.append(x)
        return layers

    @staticmethod
    def assert_equal(ours, theirs):
        """To within 1e-4 of the largest value."""
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4 * np.abs(theirs).max())


@pytest.fixture(scope="session")
def reference() -> type[Reference]:
    return Reference
