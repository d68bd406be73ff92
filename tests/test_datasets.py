"""`facerep datasets`, and that each published set is told of in full."""

from pathlib import Path

import pytest

from facerep_jax import cli
from facerep_jax.data import datasets
from facerep_jax.data.meta import checked_meta
from facerep_jax.datasets import benchmark_of, section

PAGE = Path(__file__).parent.parent / "docs" / "data.md"
PUBLISHED = [name for name in datasets.names() if benchmark_of(datasets.load(name))]


def test_all_sets_are_listed(capsys):
    assert cli.main(["facerep", "datasets"]) == 0
    out = capsys.readouterr().out
    listed = [line.split()[0] for line in out.splitlines()[1 : 1 + len(datasets.names())]]
    assert listed == datasets.names()
    (lapa,) = [line for line in out.splitlines() if line.startswith("lapa ")]
    assert lapa.split() == ["lapa", "parsing,", "landmarks", "22,176", "research", "only", "LaPa"]


def test_some_sets_are_told_of(capsys):
    assert cli.main(["facerep", "datasets", "wflw", "fairface"]) == 0
    out = capsys.readouterr().out
    for words in (
        "facerep prepare wflw --manual_dir RAW",
        "list_98pt_rect_attr",
        "CVPR 2018",
        "CC BY 4.0",
        "may be shown",
    ):
        assert words in out


@pytest.mark.parametrize(
    ("word", "message"),
    [("wfwl", "no data set 'wfwl'; did you mean 'wflw'?"), ("manifest", "'manifest' is no published set")],
)
def test_another_word_is_refused(capsys, word, message):
    assert cli.main(["facerep", "datasets", word]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("name", PUBLISHED)
def test_each_is_told_of_in_full_and_on_the_page(name):
    module = datasets.load(name)
    benchmark = benchmark_of(module)
    assert (benchmark.name, module.RAW) == (name, benchmark.raw)
    assert {*benchmark.counts} <= {"train", "validation", "test"}
    checked_meta(benchmark.terms)
    assert section(benchmark, module.__doc__) in PAGE.read_text(), (
        "facerep datasets --markdown writes docs/data.md anew"
    )
    with pytest.raises(ValueError, match=f"data set '{name}' needs --manual_dir: "):
        module.read(None, None)
