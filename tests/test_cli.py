"""Error: what users see of a command line that is right or wrong. A few child processes, the rest in this process."""

import importlib
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from absl import flags

from facerep_jax import cli

ROOT = Path(__file__).parent.parent
FARL = "configs/pretrain/farl.py"
DEMO = "configs/pretrain/farl_nano.py"
pytestmark = pytest.mark.filterwarnings(
    "ignore:the load_module:DeprecationWarning"
)  # how ml_collections reads a config


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    monkeypatch.delenv("FACEREP_VERBOSE", raising=False)
    monkeypatch.delitem(sys.modules, "config_config", raising=False)  # ml_collections loads each config into this one


@pytest.fixture
def facerep(capsys):
    def run(*argv: object) -> tuple[int, str, str]:
        status = cli.main(["facerep", *map(str, argv)])
        return status, *capsys.readouterr()

    return run


@pytest.fixture
def refused(facerep):
    """Runs a command that must end with status 2 and one line on stderr; gives that line."""

    def run(*argv: object) -> str:
        status, out, err = facerep(*argv)
        assert (status, out) == (2, "")
        assert re.fullmatch(r"facerep[^\n:]*: [^\n]+\n", err), err
        assert "Traceback" not in err
        return err

    return run


def in_process_of_its_own(*argv: str, **environment: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "facerep_jax.cli", *argv],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.returncode, done.stdout, done.stderr


# --- processes


@pytest.mark.parametrize("argv", [(), ("--help",)])
def test_a_process_lists_the_commands(argv):
    status, out, err = in_process_of_its_own(*argv)
    assert (status, err) == (0, "")
    assert all(f"facerep {command}" in out for command in cli.COMMANDS)


def test_a_process_refuses_an_unknown_command():
    assert in_process_of_its_own("trian") == (2, "", "facerep: no command 'trian'; did you mean 'pretrain'?\n")


def test_a_process_says_one_line_and_verbose_the_traceback():
    argv = ("pretrain", "--config", f"{FARL}:vairant=B/16", "--workdir", "never_made")
    status, out, err = in_process_of_its_own(*argv)
    assert (status, out) == (2, "")
    assert err == "facerep pretrain: config argument 'vairant' is not known; did you mean 'variant'?\n"
    status, _, err = in_process_of_its_own(*argv, FACEREP_VERBOSE="1")
    assert status != 0
    assert "Traceback" in err
    assert "did you mean 'variant'?" in err
    assert not (ROOT / "never_made").exists()


def test_ctrl_c_ends_a_process_by_its_signal_with_one_line(tmp_path):
    """Tried: the status returned; Python's exit may then crash on threads of XLA."""
    path = tmp_path / "mine.py"
    path.write_text(
        "import os, signal, time\n\n"
        "def get_config(arg=None):\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    for _ in range(600):  # another thread may be the one that takes it\n"
        "        time.sleep(0.1)\n"
    )
    argv = ("pretrain", "--config", str(path), "--workdir", str(tmp_path / "run"))
    line = "facerep pretrain: stopped by Ctrl-C; nothing is half-written\n"
    assert in_process_of_its_own(*argv) == (-signal.SIGINT, "", line)
    assert "Traceback" in in_process_of_its_own(*argv, FACEREP_VERBOSE="1")[2]


def test_an_ascii_terminal_shows_what_it_can():
    code = "from facerep_jax import cli; cli.main(['facerep', '--help']); print('7.22 ± 0.17')"
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("7.22 ? 0.17\n")


# --- help


@pytest.mark.parametrize("argv", [(), ("-h",), ("-help",), ("--help",)])
def test_help_lists_every_command(facerep, argv):
    status, out, err = facerep(*argv)
    assert (status, err) == (0, "")
    for command, what in cli.COMMANDS.items():
        assert re.search(rf"^  facerep {command} +{re.escape(what)}$", out, re.MULTILINE)


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_a_commands_help_has_examples_that_its_flags_accept(facerep, command):
    status, out, err = facerep(command, "--help")
    assert (status, err) == (0, "")
    module = importlib.import_module(f"facerep_jax.{command}")
    assert module.__doc__.strip() in out
    text = re.sub(r"\\\n\s*", "", module.__doc__)  # lines that a backslash continues
    examples = re.findall(rf"^ *(facerep {command}\b.*)$", text, re.MULTILINE)
    assert examples
    for example in examples:
        argv = shlex.split(re.sub(r"\[.*?\]", "", example))
        own = flags.FlagValues()
        module.define_flags(own, argv)
        own(argv)
        assert [name for name in own if not re.search(rf"^  --(\[no\])?{name}: ", out, re.MULTILINE)] == []


# --- commands and flags


@pytest.mark.parametrize(
    ("word", "end"),
    [
        ("evalute", "did you mean 'evaluate'?"),
        ("zzz", f"known: {', '.join(sorted(cli.COMMANDS))}"),
        ("", f"known: {', '.join(sorted(cli.COMMANDS))}"),
        ("--workdir", "known:"),
    ],
)
def test_an_unknown_command(refused, word, end):
    line = refused(word)
    assert repr(word) in line
    assert end in line


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_an_unknown_flag(refused, command):
    assert "'bogus'" in refused(command, "--bogus=1")


def test_a_near_flag_is_suggested(refused):
    assert "data_dir" in refused("prepare", "manifest", "--data_dri=x")


def test_a_flag_that_is_missing(refused, tmp_path):
    assert "--workdir" in refused("pretrain", "--config", FARL)
    assert "--config" in refused("pretrain", "--workdir", tmp_path)
    assert "--checkpoint" in refused("evaluate", "--config=configs/evaluate/landmarks.py", "--workdir=x")
    assert "--config" in refused("pretrain", "--config")


def test_a_word_that_is_no_flag(refused, tmp_path):
    assert "'more'" in refused("pretrain", "more", "--config", FARL, "--workdir", tmp_path / "run")


# --- configs


@pytest.mark.parametrize("flag", [("--config", "{}"), ("--config={}",), ("-config", "{}"), ("-config={}",)])
def test_an_unknown_config(refused, tmp_path, flag):
    wrong = "configs/pretrain/fral.py:smoke"
    line = refused("pretrain", *(part.format(wrong) for part in flag), "--workdir", tmp_path / "run")
    assert "'configs/pretrain/fral.py'" in line
    assert "did you mean 'configs/pretrain/farl.py'?" in line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("config", "flag", "expected"),
    [
        (f"{FARL}:vairant=B/16", "", ["'vairant'", "did you mean 'variant'?"]),
        (f"{FARL}:smoke=maybe", "", ["smoke is true or false, not 'maybe'"]),
        (f"{FARL}:variant", "", ["variant needs a value: variant=B/16"]),
        (f"{FARL}:variant=Q/16", "", ["Q"]),
        (f"{DEMO}:steps=many", "", ["steps is of type int, not 'many'"]),
        (FARL, "--config.stepz=3", ["'stepz'", "did you mean 'steps'?"]),
        (FARL, "--config.data.spilt=train", ["'data.spilt'", "did you mean 'split'?"]),
        (FARL, "--config.data.zzz=3", ["'data.zzz'", "batch_size, data_dir"]),
        (FARL, "--config.steps.more=3", ["'steps.more'"]),
        (FARL, "--config.objective.terms.contrastive.temprature=0.1", ["did you mean 'temperature'?"]),
        (FARL, "--config.steps=many", ["--config.steps=many", "int"]),
        (FARL, "--config.ema=[1", ["--config.ema=[1", "float"]),
        (FARL, "--config.encoder.depth=deep", ["--config.encoder.depth=deep", "int"]),
        (FARL, "--config.encoder=3", ["--config.encoder=3"]),
        (FARL, "--config.encoder.call=facerep_jax.models.vit:ViTT", ["'facerep_jax.models.vit:ViTT'", "MODULE:NAME"]),
        (FARL, "--config.encoder.call=nowhere:ViT", ["'nowhere:ViT'", "MODULE:NAME"]),
        (FARL, "--config.encoder.call=ViT", ["'ViT'", "MODULE:NAME"]),
        (FARL, "--config.encoder.variant=Q/16", ["'Q/16'", "Nano"]),
        (FARL, "--config.dtype=float8", ["'float8'", "bfloat16"]),
        (FARL, "--config.data.dataset=manifest/nobody", ["'manifest/nobody'", "facerep prepare manifest"]),
    ],
)
def test_a_config_that_is_wrong(refused, tmp_path, config, flag, expected):
    argv = ["--config", config, "--workdir", tmp_path / "run", *filter(None, [flag])]
    line = refused("pretrain", *argv)
    assert [part for part in expected if part not in line] == [], line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("def get_config(:\n", ["invalid syntax", "mine.py, line 1"]),
        ("x = 1\nimport nowhere\n", ["mine.py, line 2", "No module named 'nowhere'"]),
        ("def get_config(arg=None):\n    return {}['steps']\n", ["mine.py, line 2", "KeyError", "steps"]),
        ("def get_config(arg=None):\n    raise ValueError('of two\\n lines')\n", ["of two lines"]),
        ("x = 1\n", ["get_config"]),
    ],
)
def test_a_config_whose_code_is_wrong(refused, tmp_path, text, expected):
    path = tmp_path / "mine.py"
    path.write_text(text)
    line = refused("pretrain", "--config", path, "--workdir", tmp_path / "run", "--config.steps=3")
    assert [part for part in expected if part not in line] == [], line


def test_a_config_is_found_from_any_folder_and_the_nearest_one_counts(refused, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    argv = ("pretrain", "--config", f"{FARL}:vairant=B/16", "--workdir", "run")
    assert "did you mean 'variant'?" in refused(*argv)
    (tmp_path / FARL).parent.mkdir(parents=True)
    (tmp_path / FARL).write_text("def get_config(arg):\n    raise ValueError(f'mine has {arg}')\n")
    assert refused(*argv).endswith("mine has vairant=B/16\n")


# --- the rest


def test_a_path_that_cannot_be_a_folder(refused, tmp_path):
    (tmp_path / "file").write_text("")
    for data_dir in (tmp_path / "file", tmp_path / "file" / "below"):
        assert "file" in refused("prepare", "generated_faces:size=32,train=2", "--data_dir", data_dir)


def test_a_path_that_is_too_long_is_bad_input(refused, tmp_path):
    words = [f"--name={'x' * 300}", f"--data_dir={tmp_path}"]
    assert "File name too long" in refused("prepare", "generated_faces:size=32,train=2", *words)
    assert not list(tmp_path.rglob("*.array_record*"))


def test_verbose_raises(monkeypatch, tmp_path):
    monkeypatch.setenv("FACEREP_VERBOSE", "1")
    with pytest.raises(flags.Error, match="bogus"):
        cli.main(["facerep", "prepare", "--bogus"])
    with pytest.raises(ValueError, match="one DATASET"):
        cli.main(["facerep", "prepare", f"--data_dir={tmp_path}"])


def test_commands_do_not_see_each_others_flags(refused):
    refused("evaluate", "--bogus=1")
    assert "'checkpoint'" in refused("pretrain", "--checkpoint=random")
    assert "'workdir'" in refused("report", "--workdir=x")
