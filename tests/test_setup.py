"""What a wheel built from the checkout holds, and that the package works from it, without the checkout.

Planted and seen red: page.jinja missing from package_data, the command among gui_scripts, the configs not packaged.
"""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from configparser import ConfigParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = ("setup.py", "pyproject.toml", "README.md", "LICENSE", "configs", "facerep_jax")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built from a copy: setuptools leaves build/ and an egg-info beside what it builds."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, folder / name)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps"]
    done = subprocess.run([*pip, "--wheel-dir=out", "."], cwd=folder, capture_output=True, text=True, timeout=300)
    if "No matching distribution found for setuptools" in done.stderr:
        pytest.skip("no package index to take setuptools from")
    assert done.returncode == 0, done.stderr
    (path,) = (folder / "out").glob("*.whl")
    return path


def test_it_holds_everything_of_the_checkout(wheel):
    held = set(zipfile.ZipFile(wheel).namelist())
    package = {p.relative_to(ROOT).as_posix() for p in (ROOT / "facerep_jax").rglob("*") if p.is_file()}
    configs = {f"facerep_jax/{p.relative_to(ROOT).as_posix()}" for p in (ROOT / "configs").rglob("*.py")}
    wanted = {name for name in package | configs if "__pycache__" not in name}
    assert {"facerep_jax/configs/pretrain/farl.py", "facerep_jax/py.typed"} <= wanted
    assert any(name.endswith(".jinja") for name in wanted)
    assert wanted - held == set()


def test_it_holds_nothing_else(wheel):
    others = [name for name in zipfile.ZipFile(wheel).namelist() if not name.startswith("facerep_jax")]
    assert others == []


def test_it_has_the_command_the_licence_and_the_pythons(wheel):
    archive = zipfile.ZipFile(wheel)
    (info,) = {name.split("/")[0] for name in archive.namelist() if ".dist-info/" in name}
    commands = ConfigParser()
    commands.read_string(archive.read(f"{info}/entry_points.txt").decode())
    assert dict(commands["console_scripts"]) == {"facerep": "facerep_jax.cli:main"}
    metadata = archive.read(f"{info}/METADATA").decode()
    assert re.search("^License(-Expression)?: Apache-2.0$", metadata, re.MULTILINE)
    assert "Requires-Python: >=3.11" in metadata
    for extra, needs in (
        ("cuda", "jax[cuda13]"),
        ("cuda13", "jax[cuda13]"),
        ("cuda12", "jax[cuda12]"),
        ("k8s", "jax[k8s]"),
    ):
        assert re.search(f"^Requires-Dist: {re.escape(needs)}; extra == .{extra}.$", metadata, re.MULTILINE)
    assert archive.read(f"{info}/licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()


def test_its_configs_are_found_where_there_is_no_checkout(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    (tmp_path / "empty").mkdir()

    def python(*argv: str) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
        run = [sys.executable, *argv]
        return subprocess.run(run, cwd=tmp_path / "empty", env=env, capture_output=True, text=True, timeout=120)

    where = python("-c", "import facerep_jax; print(facerep_jax.__file__)").stdout.strip()
    assert where == str(tmp_path / "site" / "facerep_jax" / "__init__.py")
    done = python("-m", "facerep_jax.cli", "pretrain", "--config=configs/pretrain/farl.py:vairant=1", "--workdir=run")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith("config argument 'vairant' is not known; did you mean 'variant'?\n")
