"""The page holds the numbers of the workdirs; it loads nothing; what is missing is said.

The workdirs are written here from the description of their formats (DESIGN section 7), not by our own writers.
"""

import io
import json
import math
import re
from html.parser import HTMLParser

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from facerep_jax.evaluation import report, workdirs
from facerep_jax.evaluation.metrics import F1, NME
from facerep_jax.evaluation.statistics import paired_difference, summary

NORMALISER = {"kind": "inter_ocular", "left": 36, "right": 45}
NME_SPEC = {"call": "facerep_jax.evaluation.metrics:NME", "normaliser": NORMALISER}
CLASSES = ["background", "skin", "brows", "eyes", "nose", "mouth", "hair"]
F1_SPEC = {"call": "facerep_jax.evaluation.metrics:F1", "classes": CLASSES}
FARL = {"path": "runs/farl", "step": 20000, "weights": "ema", "digest": "9f31c2d47ab0"}
IMAGES = 60


def landmark_statistics(level, seeds, rng_seed):
    """Errors of each image in three units, whether it counts, is valid, no failure; some images are hard for all."""
    rng = np.random.default_rng(rng_seed)
    hard = np.random.default_rng(99).lognormal(0, 0.35, (1, IMAGES, 1))
    spread = 1 + 0.02 * rng.normal(size=(len(seeds), 1, 1))
    errors = level * hard * spread * rng.lognormal(0, 0.12, (len(seeds), IMAGES, 1)) * [1.0, 0.55, 0.4]
    return np.concatenate([errors, np.ones((len(seeds), IMAGES, 4)), np.zeros((len(seeds), IMAGES, 2))], axis=2)


def parsing_statistics(level, seeds, rng_seed):
    """True positives, predicted and true pixels of seven classes."""
    rng = np.random.default_rng(rng_seed)
    true = np.random.default_rng(98).uniform(200, 4000, (1, IMAGES, 7)) * np.ones((len(seeds), 1, 1))
    hits = true * np.clip(level + 0.05 * rng.normal(size=true.shape), 0, 1)
    return np.round(np.concatenate([hits, 0.5 * (hits + true), true], axis=2))


def strip():
    x, y = np.meshgrid(np.arange(1200), np.arange(150))
    shades = np.stack([(x // 150 * 37) % 256, y, (x + y) % 256], axis=-1).astype(np.uint8)
    drawn = io.BytesIO()
    Image.fromarray(shades).save(drawn, "PNG")
    return drawn.getvalue()


def write_evaluation(folder, level, *, checkpoint, seeds=(0, 1, 2), baselines=None, parts=("parquet", "png"), **over):
    """An evaluation workdir; returns results.json and the statistics."""
    parsing = over.get("task") == "parsing"
    metric, statistics_of = (F1(CLASSES), parsing_statistics) if parsing else (NME(NORMALISER), landmark_statistics)

    def scored(statistics):
        values = [metric.compute(s.sum(0)) for s in statistics]
        return {name: summary([v[name] for v in values]) for name in values[0]}

    folder.mkdir(parents=True)
    statistics = {"encoder": statistics_of(level, seeds, round(1e4 * level))}
    statistics |= {name: statistics_of(at, seeds, 5) for name, at in (baselines or {}).items()}
    results = {
        "task": "landmarks",
        "dataset": "civil_us",
        "protocol": "linear_probe",
        "selection": "validation",
        "fraction": 0.1,
        "seeds": list(seeds),
        "metrics": scored(statistics["encoder"]),
        "headline": metric.headline,
        "lower_is_better": metric.lower_is_better,
        "metric": F1_SPEC if parsing else NME_SPEC,
        "checkpoint": checkpoint,
        "config": {},
        "versions": {"facerep_jax": "0.1.0", "jax": "0.10.2"},
        "labels": 42,
        "test_images": IMAGES,
        "baselines": {name: {"metrics": scored(statistics[name])} for name in baselines or {}},
    } | over
    (folder / "results.json").write_text(json.dumps(results))
    if "parquet" in parts:
        write_statistics(folder, seeds, statistics)
    if "png" in parts:
        (folder / "overlays.png").write_bytes(strip())
    return results, statistics


def write_statistics(folder, subsets, statistics, ids=None):
    ids = ids or [f"face_{i:03d}.jpg" for i in range(IMAGES)]
    rows = [
        {"id": name, "subset": subset, "encoder": encoder, "statistics": one.tolist()}
        for encoder, values in statistics.items()
        for subset, of_subset in zip(subsets, values, strict=True)
        for name, one in zip(ids, of_subset, strict=True)
    ]
    np.random.default_rng(0).shuffle(rows)  # no order is promised
    pq.write_table(pa.Table.from_pylist(rows), folder / "examples.parquet")


def write_pretraining(folder, steps=120, every=10, resumed_at=60):
    """A log with two losses, in which the steps after a resume repeat."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)

    def line(step):
        x = step / (steps * every)
        contrastive = 6.2 * math.exp(-2.2 * x) + 0.4 + 0.06 * rng.normal()
        tokens = 5.4 + 3.4 * math.exp(-5 * x) + 0.04 * rng.normal()
        return {
            "step": step,
            "loss": contrastive + tokens,
            "contrastive/loss": contrastive,
            "contrastive/temperature": 0.07 - 0.04 * x,
            "masked_tokens/loss": tokens,
            "masked_tokens/unigram": 6.31,
            "images_per_second": 2870 + 40 * rng.normal(),
            "input_wait": abs(0.012 + 0.004 * rng.normal()),
            "learning_rate": 1e-3 * min(1, 10 * x) * 0.5 * (1 + math.cos(math.pi * x)),
        }

    logged = [line(every * i) for i in range(1, resumed_at + 20)] + [
        line(every * i) for i in range(resumed_at, steps + 1)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in logged))
    described = {
        "steps": steps * every,
        "data": {"dataset": "civil_us", "batch_size": 256},
        "encoder": {"call": "facerep_jax.models.vit:ViT", "variant": "Ti/16"},
        "objective": {
            "call": "facerep_jax.objectives.combined:Combined",
            "terms": {"contrastive": {"call": "x:y"}, "masked_tokens": {"call": "x:y"}},
        },
    }
    (folder / "config.json").write_text(json.dumps(described))
    return logged


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two encoders and a random one on landmarks at three fractions, two on parsing, and a pre-training run."""
    root = tmp_path_factory.mktemp("runs")
    other = FARL | {"path": "runs/supervised", "weights": "params", "digest": "07aa41"}
    for fraction, labels, easier in ((0.01, 4, 1.6), (0.1, 42, 1.0), (1.0, 424, 0.7)):
        shared = {
            "fraction": fraction,
            "labels": labels,
            "baselines": {"mean_shape": 0.16, "pixel_ridge": 0.11 * easier},
        }
        at = root / "landmarks" / str(fraction)
        write_evaluation(at / "farl", 0.062 * easier, checkpoint=FARL, **shared)
        write_evaluation(at / "supervised", 0.071 * easier, checkpoint=other, **shared)
        write_evaluation(at / "random", 0.101 * easier, checkpoint="random", **shared)
    shared = {"task": "parsing", "protocol": "frozen", "selection": "last", "baselines": {"most_frequent_class": 0.1}}
    write_evaluation(root / "parsing" / "farl", 0.81, checkpoint=FARL, seeds=(0,), **shared)
    write_evaluation(root / "parsing" / "random", 0.62, checkpoint="random", seeds=(0,), **shared)
    write_pretraining(root / "pretrain" / "farl")
    return root


@pytest.fixture(scope="module")
def laid_out(runs):
    return report.page(*workdirs.read([runs]))


class Parser(HTMLParser):
    """Checks nesting; collects the words, and every attribute that could load something."""

    VOID = frozenset({"meta", "img", "br", "link", "input"})

    def __init__(self):
        super().__init__()
        self.open, self.loads, self.tags, self.words = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.loads += [v for k, v in attrs if k in ("src", "href", "srcset", "data", "poster", "action")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def parsed(text):
    parser = Parser()
    parser.feed(text)
    parser.close()
    assert not parser.open
    return parser


def section(page, title):
    return next(s for s in page.evaluations if s.title == title)


def table(page, title, section_title="Landmarks on civil_us"):
    return next(t for t in section(page, section_title).tables if t.title == title)


def column(found, name):
    at = next(i for i, cell in enumerate(found.header) if cell.startswith(name))
    return {row.cells[0]: row.cells[at] for row in found.rows}


def test_the_numbers_are_those_of_results_json(runs, laid_out):
    found = table(laid_out, "10% of the labels")
    results = json.loads((runs / "landmarks/0.1/farl/results.json").read_text())
    entry = results["metrics"]["nme_inter_ocular"]
    want = f"{100 * entry['mean']:.2f} ± {100 * entry['std']:.2f}"
    assert column(found, "NME inter-ocular ↓")["farl, step 20,000, ema"] == want
    assert column(found, "NME box")["farl, step 20,000, ema"].startswith(
        f"{100 * results['metrics']['nme_box']['mean']:.2f}"
    )
    baseline = results["baselines"]["mean_shape"]["metrics"]["nme_inter_ocular"]
    assert column(found, "NME inter-ocular")["mean shape"].startswith(f"{100 * baseline['mean']:.2f} ±")
    assert set(column(found, "Labels").values()) == {"42"}
    assert set(column(found, "Subsets").values()) == {"3"}
    assert [row.cells[0] for row in found.rows if row.best] == ["farl, step 20,000, ema"]
    order = ["farl, step 20,000, ema", "supervised, step 20,000, params", report.RANDOM, "mean shape", "pixel ridge"]
    assert [row.cells[0] for row in found.rows] == order


def test_gain_and_interval_are_those_of_the_statistics(runs, laid_out):
    read = [workdirs.read_statistics(runs / "landmarks/0.1" / name)[2] for name in ("random", "farl")]
    want = paired_difference(*read, lambda s: s[0] / s[3], lower_is_better=True)
    found = table(laid_out, "10% of the labels")
    cells = column(found, "Difference")
    numbers = [f"{100 * v:+.2f}".replace("-", report.MINUS) for v in (want.difference, want.low, want.high)]
    assert cells["farl, step 20,000, ema"] == f"{numbers[0]} [{numbers[1]}, {numbers[2]}]"
    assert column(found, "Gain")["farl, step 20,000, ema"] == f"+{100 * want.relative_gain:.1f}%"
    assert cells[report.RANDOM] == cells["mean shape"] == ""
    parsing = table(laid_out, "10% of the labels", "Parsing on civil_us")
    assert column(parsing, "Gain")["farl, step 20,000, ema"].startswith("+")  # higher is better here
    assert column(parsing, "F1 mean foreground ↑")["farl, step 20,000, ema"].count("±") == 0  # one subset


def test_a_caption_says_all_that_a_number_depends_on(laid_out):
    facts = ("Landmarks", "civil_us", "linear probe", "selection: validation", "3 label subsets", "60 test images")
    for fraction in ("1% of the labels", "10% of the labels", "100% of the labels"):
        caption = table(laid_out, fraction).caption
        assert all(part in caption for part in (*facts, fraction, "lower is better"))
    assert "higher is better" in table(laid_out, "10% of the labels", "Parsing on civil_us").caption
    notes = section(laid_out, "Landmarks on civil_us").notes
    assert "over label subsets" in notes[0]
    assert "95% interval by a paired bootstrap" in notes[1]


def test_both_prints_hold_every_cell(laid_out):
    html, markdown = report.html(laid_out), report.markdown(laid_out)
    words = "\n".join(parsed(html).words)
    plain = re.sub(r"\\([|*_`\[\]\\])", r"\1", markdown)
    for part in (*laid_out.evaluations, *laid_out.pretrainings):
        assert all(text in words and text in plain for text in (part.title, part.facts, *part.notes))
        for found in part.tables:
            for text in (*found.header, *found.notes, found.caption, *(c for row in found.rows for c in row.cells)):
                assert text in words
                assert text in plain


def test_the_page_loads_nothing(laid_out):
    html = report.html(laid_out)
    parser = parsed(html)
    assert parser.loads
    assert all(link.startswith("data:image/") for link in parser.loads)
    assert not {"script", "link", "iframe", "object"} & set(parser.tags)
    assert not re.search(r"http|url\(|@import|//", re.sub(r'src="data:[^"]*"', "", html))


def test_pictures(laid_out):
    landmarks, parsing = (section(laid_out, f"{t} on civil_us") for t in ("Landmarks", "Parsing"))
    assert [p.kind for p in landmarks.pictures] == ["figure"] + ["strip"] * 9
    assert [p.folded for p in landmarks.pictures[1:]] == [False] * 3 + [True] * 6  # all labels first
    assert "against the label fraction" in landmarks.pictures[0].caption
    assert [p.kind for p in parsing.pictures] == ["strip"] * 2  # one fraction: no chart
    captions = [p.caption for p in laid_out.pretrainings[0].pictures]
    assert [c.split(";")[0] for c in captions] == [
        *("loss", "contrastive/loss", "masked_tokens/loss", "images_per_second", "input_wait", "learning_rate")
    ]
    assert "dashed: unigram entropy" in captions[2]


def test_the_same_workdirs_give_the_same_page(runs, laid_out):
    assert report.html(report.page(*workdirs.read([runs]))) == report.html(laid_out)


def test_a_pretraining_says_what_was_run_and_how_it_ended(tmp_path):
    logged = write_pretraining(tmp_path / "run")
    (section,) = report.page(*workdirs.read([tmp_path])).pretrainings
    assert section.facts == "ViT Ti/16 · contrastive + masked_tokens · civil_us · batch 256 · 1,200 steps"
    assert column(section.tables[0], "Last")["loss"] == f"{logged[-1]['loss']:.4g}"
    assert section.tables[0].caption == "run · 120 logged steps, 10 to 1,200"


def test_a_run_that_is_being_written(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "lo')
    page = report.page(*workdirs.read([tmp_path]))
    assert "incomplete" in report.html(page)
    (tmp_path / "metrics.jsonl").write_text("")
    assert "0 logged steps" in report.html(report.page(*workdirs.read([tmp_path])))


def test_without_a_random_encoder_there_is_no_gain(tmp_path):
    write_evaluation(tmp_path / "farl", 0.06, checkpoint=FARL)
    page = report.page(*workdirs.read([tmp_path]))
    found = table(page, "10% of the labels")
    assert not any("Gain" in cell or "Difference" in cell for cell in found.header)
    assert "Gain" not in report.html(page)


def test_the_random_encoder_alone(tmp_path):
    write_evaluation(tmp_path / "random", 0.1, checkpoint="random", parts=())
    assert "Gain" not in report.html(report.page(*workdirs.read([tmp_path])))


@pytest.mark.parametrize(
    ("change", "gain", "note"),
    [
        ({"parts": ()}, r"^\+\d", "no interval, since farl has no examples.parquet"),
        ({"seeds": (0, 1)}, report.NOTHING, "other label subsets than the random encoder"),
        ({"labels": 41}, report.NOTHING, "other label subsets"),
        ({"metric": NME_SPEC | {"normaliser": {"kind": "box"}}}, report.NOTHING, "another metric"),
        ({"metrics": {"nme_inter_ocular": summary([0.07, 0.08])}}, r"^\+\d", "is one of them old?"),
    ],
)
def test_why_a_gain_or_its_interval_is_missing_is_said(tmp_path, change, gain, note):
    write_evaluation(tmp_path / "farl", 0.06, checkpoint=FARL, **change)
    write_evaluation(tmp_path / "random", 0.1, checkpoint="random")
    found = table(report.page(*workdirs.read([tmp_path])), "10% of the labels")
    assert re.search(gain, column(found, "Gain")["farl, step 20,000, ema"])
    assert note in " ".join(found.notes)


def test_other_test_images_give_no_gain(tmp_path):
    _, statistics = write_evaluation(tmp_path / "farl", 0.06, checkpoint=FARL)
    write_evaluation(tmp_path / "random", 0.1, checkpoint="random")
    write_statistics(tmp_path / "farl", (0, 1, 2), statistics, ids=[f"other_{i}" for i in range(IMAGES)])
    found = table(report.page(*workdirs.read([tmp_path])), "10% of the labels")
    assert "tested on other images" in found.notes[-1]


def test_selection_on_the_test_set_is_called_so(tmp_path):
    write_evaluation(tmp_path / "farl", 0.06, checkpoint=FARL, selection="test_best")
    page = report.page(*workdirs.read([tmp_path]))
    assert "optimistic" in report.html(page)
    assert "optimistic" in report.markdown(page)


def test_protocols_and_selections_do_not_mix(tmp_path):
    for i, (protocol, selection) in enumerate([("frozen", "last"), ("frozen", "validation"), ("fine_tune", "last")]):
        write_evaluation(tmp_path / str(i), 0.06, checkpoint=FARL, protocol=protocol, selection=selection)
    assert len(report.page(*workdirs.read([tmp_path])).evaluations) == 3


def test_encoders_of_one_name_are_told_apart(tmp_path):
    write_evaluation(tmp_path / "a", 0.06, checkpoint=FARL | {"path": "one/farl"})
    write_evaluation(tmp_path / "b", 0.07, checkpoint=FARL | {"path": "two/farl"})
    write_evaluation(tmp_path / "c", 0.08, checkpoint=FARL | {"path": "two/farl", "digest": "b"})
    write_evaluation(tmp_path / "d", 0.09, checkpoint=FARL | {"path": "three/swav", "step": None})
    write_evaluation(tmp_path / "e", 0.05, checkpoint=FARL | {"path": "three/swav", "step": None})
    found = table(report.page(*workdirs.read([tmp_path])), "10% of the labels")
    assert [row.cells[0] for row in found.rows] == [
        "one/farl, step 20,000, ema",
        "swav, ema (d)",
        "swav, ema (e)",
        f"two/farl {FARL['digest']}, step 20,000, ema",
        "two/farl b, step 20,000, ema",
    ]


def test_equal_baselines_stand_once_and_others_with_their_source(tmp_path):
    write_evaluation(tmp_path / "a", 0.06, checkpoint=FARL, baselines={"mean_shape": 0.2, "pixel_ridge": 0.1})
    write_evaluation(tmp_path / "b", 0.07, checkpoint="random", baselines={"mean_shape": 0.2, "pixel_ridge": 0.11})
    found = table(report.page(*workdirs.read([tmp_path])), "10% of the labels")
    assert [row.cells[0] for row in found.rows][2:] == ["mean shape", "pixel ridge (of a)", "pixel ridge (of b)"]


def test_names_are_escaped(tmp_path):
    nasty = 'a<img src="http://x/y">&|b'
    write_evaluation(tmp_path / "farl", 0.06, checkpoint=FARL | {"path": nasty.replace("/", "")}, dataset=nasty)
    page = report.page(*workdirs.read([tmp_path]))
    html, markdown = report.html(page), report.markdown(page)
    parser = parsed(html)
    assert all(link.startswith("data:image/") for link in parser.loads)
    assert nasty in "".join(parser.words)
    assert "<img" not in markdown
    row = next(line for line in markdown.splitlines() if "a&lt;img" in line and "ema" in line)
    assert len(re.findall(r"(?<!\\)\|", row)) == 7  # six cells: a bar in a name does not open another


def test_values_that_are_not_defined(tmp_path):
    write_evaluation(tmp_path / "farl", 0.06, checkpoint=FARL, metrics={"nme_inter_ocular": summary([math.nan] * 3)})
    write_evaluation(
        tmp_path / "random", 0.1, checkpoint="random", metrics={"nme_inter_ocular": summary([math.nan])}, parts=()
    )
    found = table(report.page(*workdirs.read([tmp_path])), "10% of the labels")
    assert set(column(found, "NME inter-ocular").values()) == {report.NOTHING}
    assert not any(row.best for row in found.rows)


def test_errors_name_the_file_and_what_is_wrong(tmp_path):
    write_evaluation(tmp_path / "random", 0.1, checkpoint="random")
    spec = {"call": "facerep_jax.evaluation.metrics:NMF"}
    write_evaluation(tmp_path / "a", 0.06, checkpoint=FARL, metric=spec)
    with pytest.raises(ValueError, match=r"results\.json: cannot build metric .*NMF"):
        report.page(*workdirs.read([tmp_path]))
    write_evaluation(tmp_path / "b", 0.06, checkpoint=FARL)
    (tmp_path / "b" / "examples.parquet").write_text("no parquet")
    with pytest.raises(ValueError, match=r"examples\.parquet cannot be read"):
        report.page(*workdirs.read([tmp_path / "b", tmp_path / "random"]))
