"""Studies: what they run, that they go on where they were, and what their table says."""

import contextlib
import itertools
import json
import time

import numpy as np
import pytest
from ml_collections import ConfigDict

from facerep_jax import cells, cli, lock, study
from facerep_jax.evaluation.results import Scale
from facerep_jax.reporting.scores import Score, agreements, score_cells
from facerep_jax.reporting.wording import interval

CONFIG = """
from ml_collections import ConfigDict

SET = "generated_faces:size=48,train=30,validation=12,test=12"
PRETRAIN = "SHALLOW:dataset=generated_faces/tiny,steps=2,objective=itc"
EVALUATE = "configs/evaluate/landmarks.py:dataset=generated_faces/tiny,small,protocol=ridge,variant=Nano/8,size=48"

def get_config(arg=None):
    return ConfigDict(dict(
        prepare=dict(tiny=SET), manual_dirs={},
        pretrain=dict(farl=dict(config=PRETRAIN, seeds=2, rates=(1e-4, 1e-2))),
        search=dict(evaluation="landmarks", fraction=0.5),
        random=1, scratch=("--config.scratch.steps=5", "--config.scratch.rounds=1"), against=("random",),
        rivals=("patch_kmeans",),
        whole=("--config.seeds=(0,)",),
        evaluate=dict(landmarks=dict(config=EVALUATE, fractions=(0.5, 1.0), scratch=(1.0,))),
        curves=dict(landmarks=dict(x="steps", lines=dict(ours=((1, "landmarks", "random"), (2, "landmarks", "farl"))))),
    ))
"""


SHALLOW = """
from configs.pretrain import farl_nano
from facerep_jax.config import spec
from tests.train.tiny import TinyObjective

def get_config(arg=None):
    config = farl_nano.get_config(arg)
    config.encoder.depth = config.encoder.unroll = 1  # which compiles sooner
    with config.unlocked():
        config.objective = spec(TinyObjective)
    return config
"""


def in_this_process(arguments, log, variables):
    """What a process of its own would come to, without its imports."""
    with contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
        return cli.main(["facerep", *arguments])


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    (folder / "shallow.py").write_text(SHALLOW)
    (folder / "tiny.py").write_text(CONFIG.replace("SHALLOW", str(folder / "shallow.py")))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cells, "execute", in_this_process)
        patch.setattr(study, "Evaluators", lambda folder: contextlib.nullcontext(cells.called))
        status = cli.main(["facerep", "study", "tiny", f"--config={folder / 'tiny.py'}", f"--out={folder}"])
    assert status == 0
    return folder


def test_every_cell_is_run_once(finished, capsys):
    cells = sorted(path.parent.relative_to(finished / "tiny").as_posix() for path in finished.rglob("cell.json"))
    kinds = ("farl_0", "farl_1", "random_0")
    (tried,) = json.loads((finished / "tiny" / "study.json").read_text())["rates"]
    runs = ("pretrain/farl_0.0001_0", "pretrain/farl_0.01_0", f"pretrain/farl_{tried['chosen']:g}_1")
    assert cells == [
        *(f"evaluate/landmarks/{fraction}/{kind}" for fraction in ("0.5", "1") for kind in kinds),
        *("prepare/tiny", *sorted(runs), "search/farl/0.0001", "search/farl/0.01"),
    ]
    times = {path: path.stat().st_mtime_ns for path in finished.rglob("results.json")}
    assert cli.main(["facerep", "study", "tiny", f"--config={finished / 'tiny.py'}", f"--out={finished}"]) == 0
    assert "[" not in capsys.readouterr().out.split("landmarks:")[0]  # no cell was announced
    assert {path: path.stat().st_mtime_ns for path in finished.rglob("results.json")} == times


def test_the_table_holds_what_the_cells_found(finished):
    found = json.loads((finished / "tiny" / "study.json").read_text())
    model = json.loads((trained(finished, 1) / "model.json").read_text())
    flops = 2 * 64 * model["flops_per_image"]  # two steps of 64
    assert found["budgets"] == [{"encoder": "farl", "steps": 2, "images": 128, "flops": flops, "with_given": flops}]
    scores = found["scores"]
    simple = ["mean_shape", "linear_pixels"]
    assert [(s["fraction"], s["labels"], s["encoder"]) for s in scores] == [
        *((0.5, 15, name) for name in ("random", "farl", "patch_kmeans", *simple)),
        *((1.0, 30, name) for name in ("random", "farl", "scratch", "patch_kmeans", *simple)),
    ]
    for score in scores:
        if score["encoder"] not in ("random", "farl"):
            continue
        for seed, value in enumerate(score["values"]):
            folder = (
                finished / "tiny" / "evaluate" / "landmarks" / f"{score['fraction']:g}" / f"{score['encoder']}_{seed}"
            )
            results = json.loads((folder / "results.json").read_text())
            assert value == results["metrics"]["nme_box"]["mean"]
    gain, difference, low, high = scores[1]["against"]["random"]
    assert low < difference < high
    assert difference == pytest.approx(np.mean(scores[1]["values"]) - scores[0]["values"][0])
    assert gain == pytest.approx(-difference / scores[0]["values"][0])
    assert scores[0]["against"] == {}
    table = (finished / "tiny" / "study.md").read_text()
    assert f"| farl | 2 | 128 | {flops / 1e12:.2f} |" in table
    assert "landmarks: nme_box in %" in table
    assert f"| 15 (50%) | farl | {100 * np.mean(scores[1]['values']):.2f} |" in table


def test_curves_of_the_config_are_drawn(finished):
    found = json.loads((finished / "tiny" / "study.json").read_text())
    values = {(s["fraction"], s["encoder"]): s["values"] for s in found["scores"]}
    (curve,) = found["curves"]
    assert (curve["name"], curve["amounts"]) == ("ours", [1, 2])
    assert curve["values"] == [values[0.5, "random"], values[0.5, "farl"]]
    assert "landmarks: ours" in (finished / "tiny" / "study.md").read_text()
    assert "nme_box against steps" in (finished / "tiny" / "study.html").read_text()


def trained(finished, seed):
    """The workdir of a seed at the rate that was chosen."""
    (tried,) = json.loads((finished / "tiny" / "study.json").read_text())["rates"]
    return finished / "tiny" / "pretrain" / f"farl_{tried['chosen']:g}_{seed}"


GIVEN = ConfigDict(
    dict(
        prepare=dict(tiny="generated_faces:size=48,train=30"),
        manual_dirs={},
        pretrain=dict(
            both=dict(config="a.py:m1={mae},m2={mcf}", seeds=1, after=("mae", "mcf")),
            mae=dict(config="b.py:x", seeds=2, rates=(1e-3, 2e-3)),
            mcf=dict(config="a.py:m1={mae}", seeds=2, rates=(3e-3, 4e-3), after=("mae",)),
        ),
        search=dict(evaluation="landmarks", fraction=0.5),
        evaluate=dict(landmarks=dict(config="c.py:d", fractions=(0.5,), scratch=())),
    )
)


def test_a_table_of_years_is_not_in_percent():
    against, unit = {"random": (0.1, -0.5, -0.9, -0.1)}, Scale(1.0, 3, "years")
    years = Score("age", 1.0, "ours", 40, "mae", (4.5, 5.5), 0.25, against, unit)
    assert score_cells(years, ["random"])[2:] == (
        "5.000",
        "4.500, 5.500",
        "0.250",
        f"+10.0% {interval(-0.9, -0.1, unit)}",
    )
    assert "mae in years" in study.markdown([], [], [years], [])
    shares = Score("landmarks", 1.0, "ours", 40, "nme_box", (0.04, 0.06), 0.001, {})
    assert score_cells(shares, [])[2:] == ("5.00", "4.00, 6.00", "0.10")
    assert "nme_box in %" in study.markdown([], [], [shares], [])


def test_evaluations_that_rank_encoders_alike():
    """Errors and accuracies are both turned so that higher is better; baselines and larger fractions do not count."""

    def scored(evaluation, values, fraction, lower):
        return [
            Score(evaluation, fraction, name, 40, "x", (value,), 0.0, {}, lower_is_better=lower)
            for name, value in values.items()
        ]

    errors = dict(a=0.1, b=0.2, c=0.3, d=0.4, e=0.5, mean_shape=0.01)
    accuracies = dict(a=0.9, b=0.8, c=0.7, d=0.5, e=0.6, mean_shape=0.01)
    found = [
        *scored("errors", errors, 0.1, True),
        *scored("errors", {name: 1 - value for name, value in errors.items()}, 1.0, True),
        *scored("accuracies", accuracies, 1.0, False),
        *scored("equal", dict.fromkeys("abcde", 0.5), 1.0, False),
        *scored("few", dict(a=0.1, b=0.2, c=0.3, d=0.4), 1.0, False),
    ]
    (alike,) = agreements(found, "abcde")
    assert (alike.evaluations, alike.encoders) == (("accuracies", "errors"), 5)
    assert alike.tau == pytest.approx((9 - 1) / 10)  # one of ten pairs is in another order
    assert alike.p == pytest.approx((1 + 4) * 2 / 120)  # orders of five with at most one pair in another, both ways
    assert "| accuracies and errors | 5 | +0.80 | 0.083 |" in study.markdown([], [], found, [alike])


def test_a_recipe_that_is_given_an_encoder_comes_after_the_one_that_trains_it(tmp_path):
    """It is tried with the encoder of seed 0, at the rate that was chosen, which is trained once."""
    assert list(study.rounds(GIVEN)) == [("mae",), ("mcf",), ("both",)]
    rates = {"mae": 2e-3}
    tried = [cell for cell in study.trials(GIVEN, tmp_path, ("mcf",), rates) if cell.arguments[0] == "pretrain"]
    mae = tmp_path / "pretrain" / "mae_0.002_0"
    assert [cell.arguments[1] for cell in tried] == [f"--config=a.py:m1={mae},data_dir={tmp_path / 'data'}"] * 2
    *_, trained = study.givers(GIVEN, tmp_path, ("mae",), rates)
    assert trained.folder == mae
    assert not list(study.givers(GIVEN, tmp_path, ("both",), rates))
    assert not list(study.trials(GIVEN, tmp_path, ("both",), rates))

    rates |= {"mcf": 3e-3}
    *_, cell = study.givers(GIVEN, tmp_path, ("mcf",), rates)
    assert cell in tried  # so that it is done


def test_an_evaluation_has_its_own_encoders_rivals_and_flags(tmp_path):
    config = ConfigDict(
        dict(
            prepare={},
            pretrain={name: dict(config=f"{name}.py:x", seeds=1, flags=("--config.a=1",)) for name in ("mae", "mcf")},
            random=1,
            rivals=("patch_kmeans",),
            subsets=("--config.seeds=(0,1,2)",),
            whole=("--config.seeds=(0,)",),
            scratch=("--config.scratch.steps=5",),
            evaluate=dict(
                few=dict(config="c.py:d", fractions=(1.0,), encoders=("mcf", "no_such"), rivals=(), flags=("--e=2",)),
                most=dict(config="c.py:d", fractions=(0.5,), scratch=(0.5,)),
                none=dict(config="c.py:d", fractions=(1.0,), rivals=(), learns=False),
            ),
        )
    )
    commands = {
        cell.folder.relative_to(tmp_path).as_posix(): cell.arguments for cell in study.cells(config, tmp_path, {})
    }
    assert "--config.a=1" in commands["pretrain/mae_0"]
    judged = [name for name in commands if name.startswith("evaluate/few")]
    assert judged == ["evaluate/few/1/random_0", "evaluate/few/1/mcf_0"]
    assert "patch_kmeans" not in commands[judged[0]][1]
    assert commands[judged[1]][2:4] == ("--config.seeds=(0,)", "--e=2")  # a sequence that is given twice grows
    assert commands["evaluate/most/0.5/mae_0"][2] == "--config.seeds=(0,1,2)"
    assert commands["evaluate/most/0.5/random_0"][1].endswith(",patch_kmeans,scratch")
    assert commands["evaluate/none/1/mae_0"][1] == f"--config=c.py:d,data_dir={tmp_path / 'data'}"
    assert [name for name in commands if name.startswith("evaluate/most")][1:] == [
        f"evaluate/most/0.5/{name}_0" for name in ("mae", "mcf")
    ]


@pytest.mark.parametrize("after", [("nothing",), ("mae", "both")])
def test_a_recipe_that_is_given_what_no_recipe_trains_before_is_refused(after):
    config = ConfigDict(dict(pretrain=dict(mae=dict(), both=dict(after=after))))
    with pytest.raises(ValueError, match=f"both come after {', '.join(sorted(after))}, which no recipe trains before"):
        list(study.rounds(config))


def test_what_an_encoder_was_given_is_part_of_its_cost(tmp_path):
    flops = dict(mae=10, mcf=30, both=7)
    rates = dict(mae=2e-3, mcf=3e-3)
    for name, cost in flops.items():
        workdir = study.workdir_of(tmp_path, name, 0, rates.get(name))
        workdir.mkdir(parents=True)
        (workdir / "config.json").write_text(json.dumps({"steps": 5, "data": {"batch_size": 2}}))
        (workdir / "model.json").write_text(json.dumps({"flops_per_image": cost}))
    found = {each.encoder: (each.flops, each.with_given) for each in study.budgets_of(GIVEN, tmp_path, rates)}
    assert found == {"mae": (100, 100), "mcf": (300, 400), "both": (70, 570)}


def test_the_seeds_are_seeds(finished):
    configs = [json.loads((trained(finished, seed) / "config.json").read_text()) for seed in (0, 1)]
    assert [config["seed"] for config in configs] == [0, 1]
    assert len({config["optimizer"]["learning_rate"] for config in configs}) == 1


def test_the_rate_that_is_best_on_validation_is_chosen(finished):
    """Tried: a choice by the scores of test images; the other way round if more is better."""
    (tried,) = json.loads((finished / "tiny" / "study.json").read_text())["rates"]
    scores = {}
    for rate in (1e-4, 1e-2):
        workdir = finished / "tiny" / "search" / "farl" / f"{rate:g}"
        assert json.loads((workdir / "results.json").read_text())["fraction"] == 0.5
        subsets = json.loads((workdir / "subsets.json").read_text())
        scores[rate] = np.mean([subset["selected"]["validation"] for subset in subsets])
        config = json.loads((finished / "tiny" / "pretrain" / f"farl_{rate:g}_0" / "config.json").read_text())
        assert config["optimizer"]["learning_rate"] == rate
    assert tried["encoder"] == "farl"
    assert tried["scores"] == {str(rate): pytest.approx(score) for rate, score in scores.items()}
    assert tried["chosen"] == min(scores, key=scores.get)
    table = (finished / "tiny" / "study.md").read_text()
    assert f"| farl | {tried['chosen']:g} | {100 * scores[tried['chosen']]:.2f} | chosen |" in table


def test_scores_of_rates_have_the_unit_of_their_metric():
    tried = [study.Tried("swav", {0.1: 0.4321, 0.3: 7.5}, 0.3, Scale(1.0, 3, "°"))]
    text = study.markdown(tried, [], [], [])
    assert "On validation (°)" in text
    assert "| swav | 0.3 | 7.500 | chosen |" in text
    assert "%" not in text
    assert "On validation (%)" in study.markdown([tried[0]._replace(scale=Scale())], [], [], [])


def test_a_changed_command_is_refused_and_a_failed_cell_is_not_done(finished, tmp_path, capsys):
    command = ["facerep", "study", "tiny", f"--config={finished / 'tiny.py'}", f"--out={finished}"]
    assert cli.main([*command, "--config.prepare.tiny=generated_faces:size=64,train=30,validation=12,test=12"]) == 2
    assert "was made by another command" in capsys.readouterr().err

    other = ["facerep", "study", "tiny", f"--config={finished / 'tiny.py'}", f"--out={tmp_path}"]
    assert cli.main([*other, "--config.prepare.tiny=generated_faces:size=1,train=30"]) == 2
    assert "size must be between 32 and 256" in capsys.readouterr().err
    assert not list(tmp_path.rglob("cell.json"))


def test_a_damaged_record_of_a_cell_is_named(tmp_path):
    (tmp_path / "cell.json").write_text('{"arguments": [')
    with pytest.raises(ValueError, match=r"cell\.json is not JSON: "):
        cells.is_done(cells.Cell(tmp_path, ("prepare",)))


def test_the_time_stops_it_between_cells(finished, tmp_path, monkeypatch):
    clock, called = itertools.count(0.0, 29.0), []
    monkeypatch.setattr(cells.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(
        study, "Evaluators", lambda folder: contextlib.nullcontext(lambda cell, jobs: called.append(cell) or 0)
    )
    command = ["facerep", "study", "tiny", f"--config={finished / 'tiny.py'}", f"--out={tmp_path}", "--minutes=1"]
    assert cli.main(command) == 75
    assert len(called) == 2  # after 29 and 58 seconds


def test_a_study_has_its_folder_alone(finished, capsys):
    command = ["facerep", "study", "tiny", f"--config={finished / 'tiny.py'}", f"--out={finished}"]
    with lock.held(finished / "tiny"):
        assert cli.main(command) == 2
    assert "is in use by process" in capsys.readouterr().err
    assert cli.main([*command, "--config.random=0"]) == 2
    assert "random is 1 or more" in capsys.readouterr().err


def test_a_study_needs_one_name(finished, capsys):
    assert cli.main(["facerep", "study", f"--config={finished / 'tiny.py'}"]) == 2
    assert "which study? facerep study NAME" in capsys.readouterr().err


def test_cells_run_at_once_but_none_before_those_that_it_reads(finished, tmp_path, monkeypatch, capsys):
    """No evaluation begins while its encoder is trained, and nothing after a cell that failed."""
    running, most, order = [], [], []

    def call(cell, jobs):
        assert jobs == 2
        running.append(cell)
        time.sleep(0.05)
        most.append(len(running))
        assert len({each.arguments[0] for each in running}) == 1
        order.append(cell.arguments[0])
        running.remove(cell)
        cell.folder.mkdir(parents=True)
        (cell.folder / "log.txt").write_text("why it failed")
        return int(cell.folder.name == "random_0")

    monkeypatch.setattr(study, "Evaluators", lambda folder: contextlib.nullcontext(call))
    command = ["facerep", "study", "tiny", f"--config={finished / 'tiny.py'}", f"--out={tmp_path}", "--jobs=2"]
    command.append("--config.pretrain.farl.rates=()")
    assert cli.main(command) == 1
    assert "why it failed" in capsys.readouterr().err
    assert max(most) == 2
    assert order[:3] == ["prepare", "pretrain", "pretrain"]
    assert len(order) < 9  # none was begun after the failure
