import shlex

import pytest
from absl import flags
from ml_collections import config_flags

from facerep_jax import cli
from facerep_jax.command_line import ROOTS, command_line, find, resolve
from facerep_jax.config import plain


def test_a_config_is_found_in_the_working_directory_then_the_checkout(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = find("configs/pretrain/farl.py")
    assert found == str(ROOTS[1] / "configs/pretrain/farl.py")
    own = tmp_path / "configs" / "pretrain" / "farl.py"
    own.parent.mkdir(parents=True)
    own.write_text("")
    assert find("configs/pretrain/farl.py") == "configs/pretrain/farl.py"
    assert find(str(own)) == str(own)
    with pytest.raises(FileNotFoundError) as error:
        find("configs/pretrain/frl.py")
    assert str(error.value) == "no config 'configs/pretrain/frl.py'; did you mean 'configs/pretrain/farl.py'?"
    with pytest.raises(FileNotFoundError, match=r"no config 'q'; known: .*configs/pretrain/farl_nano\.py"):
        find("q")


def test_a_tilde_is_the_home_folder_in_every_word_of_a_command(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine.py").write_text("")
    for before, word, expected in (
        ("", "--workdir=~/w", "--workdir={}/w"),
        ("--workdir", "~/w", "{}/w"),
        ("", "--checkpoint=~/w@20", "--checkpoint={}/w@20"),
        ("", "--config.data.data_dir=~/d", "--config.data.data_dir={}/d"),
        ("", "--config=~/mine.py:data_dir=~/d", "--config={}/mine.py:data_dir=~/d"),  # which `parse_arg` replaces
        ("--config", "~/mine.py", "{}/mine.py"),
        ("report", "~/runs", "{}/runs"),
        ("", "--name=a~b", "--name=a~b"),
        ("", "--help", "--help"),
        ("", "", ""),
        ("", "--empty=", "--empty="),
    ):
        assert resolve(word, before) == expected.format(tmp_path)


def test_a_command_line_gives_the_same_values_again(tmp_path):
    (tmp_path / "a b.py").write_text("from ml_collections import ConfigDict\ndef get_config(arg=None):\n"
                                     "    return ConfigDict(dict(arg=arg, seeds=(0,), rate=1.0))\n")  # fmt: skip

    def parse(*words):
        own = flags.FlagValues()
        argv = ["facerep evaluate", *words]
        config_flags.DEFINE_config_file("config", None, "", own, sys_argv=argv)
        flags.DEFINE_string("workdir", None, "", own)
        flags.DEFINE_string("other", "x", "", own)
        own(argv)
        return own

    given = parse(
        f"--config={tmp_path}/a b.py:size=48", "--workdir", "w x", "--config.seeds=(0,1)", "--config.rate=0.5"
    )
    words = shlex.split(command_line("evaluate", given))
    assert words[:2] == ["facerep", "evaluate"]
    assert not any("other" in word for word in words)
    again = parse(*words[2:])
    assert again.workdir == "w x"
    assert plain(again.config) == plain(given.config) == {"arg": "size=48", "seeds": [0, 1], "rate": 0.5}


@pytest.mark.parametrize(
    ("command", "config", "key"),
    [
        ("pretrain", "configs/evaluate/landmarks.py", "objective"),
        ("evaluate", "configs/study/farl.py", "task"),
        ("study", "configs/pretrain/farl_nano.py", "prepare"),
    ],
)
def test_a_config_of_another_command_is_refused(tmp_path, capsys, command, config, key):
    words = [f"--config={config}"]
    words += dict(pretrain=[f"--workdir={tmp_path / 'run'}"], study=["mine", f"--out={tmp_path}"]).get(
        command, ["--checkpoint=random", f"--workdir={tmp_path / 'run'}"]
    )
    assert cli.main(["facerep", command, *words]) == 2
    assert (
        capsys.readouterr()
        .err.strip()
        .endswith(f"--config names no config of facerep {command}: it has no key {key!r}")
    )
    assert not list(tmp_path.iterdir())
