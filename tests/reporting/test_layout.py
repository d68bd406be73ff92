"""The page holds the numbers of the workdirs; what is missing is said."""

import json
import math

import numpy as np
import pytest

from facerep_jax.evaluation.statistics import paired_difference, summary
from facerep_jax.reporting import explanations, layout, wording, workdirs
from facerep_jax.reporting.page import html, markdown

FARL = "farl, step 20,000, ema"


def laid(*folders):
    return layout.page(*workdirs.read(list(folders)))


def section(page, title, chapter="Evaluation"):
    return next(s for s in page.sections(chapter) if s.title == title)


def blocks(page, title="Landmarks on civil_us", kind="table", chapter="Evaluation"):
    return [block for block in section(page, title, chapter).blocks if block.kind == kind]


def table(page, start, title="Landmarks on civil_us", chapter="Evaluation"):
    return next(t for t in blocks(page, title, chapter=chapter) if t.title.startswith(start))


def column(found, name):
    at = next(i for i, cell in enumerate(found.header) if cell.startswith(name))
    return {row.cells[0]: row.cells[at] for row in found.rows}


def test_the_numbers_are_those_of_results_json(runs, laid_out):
    found = table(laid_out, "10% of the labels")
    results = json.loads((runs / "landmarks/0.1/farl/results.json").read_text())
    entry = results["metrics"]["nme_inter_ocular"]
    want = f"{100 * entry['mean']:.2f} ± {100 * entry['std']:.2f}"
    assert column(found, "NME, inter-ocular (%) ↓")[FARL] == want
    assert column(found, "NME, box")[FARL].startswith(f"{100 * results['metrics']['nme_box']['mean']:.2f}")
    baseline = results["baselines"]["mean_shape"]["metrics"]["nme_inter_ocular"]
    assert column(found, "NME, inter-ocular")["mean shape"].startswith(f"{100 * baseline['mean']:.2f} ±")
    order = [FARL, "supervised, step 20,000, params", wording.RANDOM, "mean shape", "linear pixels"]
    assert [row.cells[0] for row in found.rows] == order


def test_every_row_says_all_that_it_depends_on(laid_out):
    for chapter in ("At a glance", "Evaluation"):
        for one in laid_out.sections(chapter):
            tables = [part for part in one.blocks if part.kind == "table"]
            for found in tables if chapter == "At a glance" else [t for t in tables if t.title[0].isdigit()]:
                assert found.rows
                for row in found.rows:
                    assert "civil_us · " in row.conditions
                    assert any(kind in row.conditions for kind in ("pre-trained · ", "random · ", "baseline · "))
                    assert "60 test images" in row.conditions
    rows = {row.cells[0]: row.conditions for row in table(laid_out, "1% of the labels").rows}
    chosen, shared = "selected on 10 validation labels", "4 labels (1%) · seeds 0\N{EN DASH}2 · 60 test images"
    learnt = f"civil_us · ViT B/16 · linear probe · Regression (cells 7) · {chosen} · {shared}"
    assert rows == {
        FARL: f"pre-trained · {learnt}",
        "supervised, step 20,000, params": f"pre-trained · {learnt}",
        wording.RANDOM: f"random · {learnt}",
        "mean shape": f"baseline · civil_us · selected on validation · {shared}",
        "linear pixels": f"baseline · civil_us · selected on validation · {shared}",
    }
    parsing = table(laid_out, "10% of the labels", "Parsing on civil_us").rows[0].conditions
    assert "last step, nothing selected" in parsing
    assert "seed 0 ·" in parsing


def test_an_untrained_encoder_that_is_finetuned_is_called_from_scratch(tmp_path, written):
    written.evaluation(tmp_path / "a", 0.1, checkpoint="random", protocol="finetune", trains_encoder=True)
    assert table(laid(tmp_path), "10%").rows[0].conditions.startswith("from scratch · ")


def test_last_is_said_of_each_row_with_what_it_chose(tmp_path, written):
    """Among several settings, however they are named, the last steps are held against validation."""
    two = {"widths": [8, 16]}
    written.evaluation(tmp_path / "a", 0.1, checkpoint="random", selection="last", protocol_settings=two)
    row = table(laid(tmp_path), "10%").rows[0]
    assert "last step, settings selected on 10 validation labels" in row.conditions


def test_scratch_is_a_network_by_its_own_protocol(tmp_path, written):
    """It neither counts as a baseline nor as the encoder before any training; its card has its settings."""
    written.evaluation(tmp_path / "a", 0.06, checkpoint=written.farl, baselines={"mean_shape": 0.16, "scratch": 0.05})
    path = tmp_path / "a" / "results.json"
    results = json.loads(path.read_text())
    results["baselines"]["scratch"] |= {
        "protocol": "finetune",
        "trains_encoder": True,
        "protocol_settings": {"steps": 77},
        "validation_labels": 0,
    }
    path.write_text(json.dumps(results | {"selection": "last"}))
    page = laid(tmp_path)
    rows = {row.cells[0]: row.conditions for row in table(page, "10%").rows}
    assert rows["scratch"].startswith("from scratch · civil_us · ViT B/16 · finetune · ")
    assert "last step, nothing selected" in rows["scratch"]
    (glance,) = page.sections("At a glance")[0].blocks
    assert "mean shape" in glance.rows[0].cells[3]
    assert glance.rows[0].cells[2] == wording.NOTHING
    (cards,) = blocks(page, kind="cards")
    facts = {card.title: dict(card.facts) for card in cards.cards}
    assert "steps 77" in facts["scratch, 10% of the labels"]["protocol"]
    assert len(next(g for g in blocks(page, kind="gallery") if g.title == "Some test images").pictures) == 1


def test_a_random_baseline_is_the_encoder_before_any_training(tmp_path, written):
    written.evaluation(tmp_path / "a", 0.06, checkpoint=written.farl, baselines={"mean_shape": 0.16, "random": 0.09})
    (glance,) = laid(tmp_path).sections("At a glance")[0].blocks
    assert glance.rows[0].cells[2].startswith("9.")
    assert glance.rows[0].cells[5] == "better"


def test_another_architecture_is_not_the_encoder_before_any_training(tmp_path, written):
    written.evaluation(tmp_path / "a", 0.06, checkpoint=written.farl)
    written.evaluation(tmp_path / "b", 0.1, checkpoint="random", encoder={"name": "ViT S/16"})
    glance = laid(tmp_path).sections("At a glance")[0]
    assert glance.blocks[0].rows[0].cells[2] == wording.NOTHING
    assert glance.facts == ""


def test_other_heads_are_other_tables(tmp_path, written):
    written.evaluation(tmp_path / "a", 0.06, checkpoint=written.farl)
    written.evaluation(tmp_path / "b", 0.05, checkpoint=written.farl, head="Heatmaps (UPerHead (channels 64))")
    sections = laid(tmp_path).sections("Evaluation")
    assert [len(next(p for p in s.blocks if p.kind == "table").rows) for s in sections] == [1, 1]
    assert "channels 64" in sections[0].facts + sections[1].facts


def test_a_task_that_nobody_knows_brings_its_own_words(tmp_path, written):
    """Nothing of a task, metric or protocol is known here: the page says what the results say."""
    words = written.landmark_words | {
        "task": {"title": "Recognition", "drawn": "two faces and their cosine"},
        "columns": ["nme_inter_ocular", "nme_box"],
        "names": {"nme_inter_ocular": "Error of pairs"},
        "counts": ["nme_box"],
        "metrics": ["Error of pairs: what it is."],
        "protocols": {"zero_shot": "Zero-shot: nothing learns."},
        "unit": "identity",
        "error_limit": None,
    }
    shared = {"task": "recognition", "protocol": "zero_shot", "words": words}
    written.evaluation(tmp_path / "a", 0.06, checkpoint=written.farl, **shared)
    written.evaluation(tmp_path / "b", 0.1, checkpoint="random", **shared)
    (tmp_path / "a" / "worst.png").write_bytes(written.image())
    page = laid(tmp_path)
    one = section(page, "Recognition on civil_us")
    assert one.facts.startswith("zero shot · ")
    assert one.explanations[:2] == ("Error of pairs: what it is.", "Zero-shot: nothing learns.")
    main = table(page, "10%", one.title)
    assert main.header == ("Encoder", "Error of pairs (%) ↓", "Nme box")
    assert main.rows[0].cells[2] == "0"
    assert "60 test identities" in main.rows[0].conditions
    titles = [block.title for block in one.blocks]
    assert {"How many identities have how small an error", "The ten worst test identities"} <= set(titles)
    spread = table(page, "Distribution of errors", one.title)
    assert spread.header == ("Encoder", "Median (%) ↓", "90th percentile (%) ↓")
    assert table(page, "Largest errors", one.title).header[0] == "Test identity"
    sheets = next(block for block in one.blocks if block.title == "The ten worst test identities")
    assert "two faces and their cosine" in sheets.caption
    assert page.sections("At a glance")[0].blocks[0].rows[0].cells[0] == "Recognition, Error of pairs ↓"


def test_a_result_of_an_earlier_version_is_shown_without_explanations(tmp_path, written):
    written.evaluation(tmp_path / "a", 0.06, checkpoint=written.farl, words=None, encoder=None)
    page = laid(tmp_path)
    assert section(page, "Landmarks on civil_us").explanations[0] == explanations.SELECTIONS["validation"]
    assert table(page, "10%").header[1] == "Nme inter ocular (%) ↓"
    assert not any(block.title.startswith("How many") for block in section(page, "Landmarks on civil_us").blocks)
    assert html(page)


def test_settings_that_features_do_not_depend_on_make_no_other_encoder(tmp_path, written):
    """What the writer left out of the architecture may differ; what it left in may not."""
    for name, dropped, size in (("a", 0.1, 224), ("b", 0.0, 224), ("c", 0.0, 448)):
        encoder = {"name": "ViT", "architecture": {"image_size": size}}
        over = {"encoder": encoder, "config": {"encoder": {"image_size": size, "drop_path": dropped}}}
        checkpoint = "random" if name != "a" else written.farl
        written.evaluation(tmp_path / name, 0.06 if name == "a" else 0.1, checkpoint=checkpoint, **over)
    assert laid(tmp_path / "a", tmp_path / "c").sections("At a glance")[0].facts == ""
    assert "better in 1" in laid(tmp_path / "a", tmp_path / "b").sections("At a glance")[0].facts


def test_at_a_glance_holds_the_paired_difference(runs, laid_out):
    (glance,) = laid_out.sections("At a glance")
    (found,) = glance.blocks
    assert len(found.rows) == 7
    read = [workdirs.read_statistics(runs / "landmarks/0.1" / name)[2] for name in ("random", "farl")]
    want = paired_difference(*read, lambda s, w: (w @ s)[:, 0] / (w @ s)[:, 3], lower_is_better=True)
    row = next(r for r in found.rows if r.conditions.startswith(f"{FARL} · ") and "42 labels" in r.conditions)
    assert row.cells[4] == wording.improvement(-want.difference, -want.high, -want.low)
    assert row.cells[5] == "better"
    np.testing.assert_allclose(row.interval, np.array([-want.difference, -want.high, -want.low]) / want.a)
    assert "linear pixels" in row.cells[3]
    assert glance.facts == "Of 7 comparisons with the same encoder before any training: better in 7."


def test_without_a_random_encoder_nothing_is_claimed(tmp_path, written):
    written.evaluation(tmp_path / "farl", 0.06, checkpoint=written.farl)
    page = laid(tmp_path)
    (found,) = page.sections("At a glance")[0].blocks
    assert found.rows[0].cells[2:] == (wording.NOTHING,) * 4
    assert page.sections("At a glance")[0].facts == ""
    assert not any(t.title.startswith("How certain") for t in blocks(page))


def test_only_evaluations_of_untrained_encoders(tmp_path, written):
    written.evaluation(tmp_path / "random", 0.1, checkpoint="random", parts=())
    page = laid(tmp_path)
    assert [name for name, _ in page.chapters] == ["Evaluation", "Published results"]
    assert "Median" not in html(page)  # no distribution without statistics


def test_only_a_pretraining(tmp_path, written):
    logged = written.pretraining(tmp_path / "run")
    page = laid(tmp_path)
    assert [name for name, _ in page.chapters] == ["Pre-training"]
    (one,) = page.sections("Pre-training")
    assert one.facts.startswith(
        "ViT Ti/16 · contrastive + masked_tokens · civil_us · batch 256 · 1,200 steps · median "
    )
    scalars = next(part for part in one.blocks if part.kind == "table")
    assert column(scalars, "Last")["loss"] == f"{logged[-1]['loss']:.4g}"
    assert scalars.caption == "run · 120 logged steps, 10 to 1,200"
    assert html(page)


def test_a_run_that_is_being_written(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "lo')
    assert "incomplete" in html(laid(tmp_path))
    (tmp_path / "metrics.jsonl").write_text("")
    assert "0 logged steps" in html(laid(tmp_path))


def test_charts_and_sheets(laid_out):
    landmarks = blocks(laid_out, kind="gallery")
    assert [(g.title, len(g.pictures), g.folded) for g in landmarks] == [
        ("Labels and error", 1, False),
        ("How many images have how small an error", 3, False),
        ("Some test images, 100% of the labels", 3, False),
        ("The ten worst test images, 100% of the labels", 2, False),
        ("Some test images, 10% of the labels", 3, True),
        ("Some test images, 1% of the labels", 3, True),
    ]
    assert all(p.alt and p.caption and bool(p.svg) != bool(p.uri) for g in landmarks for p in g.pictures)
    assert FARL in landmarks[0].pictures[0].alt
    parsing = blocks(laid_out, "Parsing on civil_us", "gallery")
    assert [g.title for g in parsing] == ["Some test images"]  # one fraction, no errors of single faces: no chart
    curves, times, masked = (part for part in laid_out.sections("Pre-training")[0].blocks if part.kind == "gallery")
    assert [p.caption.partition(",")[0] for p in curves.pictures] == [
        *("Total loss", "Loss of contrastive", "Loss of masked tokens"),
        *("Throughput", "Waiting for input", "Learning rate"),
    ]
    assert [name for _, name in curves.pictures[2].key] == ["logged", "chance"]
    assert [times.title, masked.title] == ["Where the wall time went", "What was masked"]


def test_the_tokens_of_an_encoder_stand_once(laid_out):
    (tokens,) = laid_out.sections("What the encoders see")
    assert [p.caption for p in tokens.blocks[0].pictures] == [f"{FARL} (pre-trained)", f"{wording.RANDOM} (random)"]


def test_a_card_says_how_to_make_a_row_again(laid_out):
    (cards,) = blocks(laid_out, kind="cards")
    assert len(cards.cards) == 9
    whole = next(c for c in cards.cards if c.title == f"{FARL}, 100% of the labels")
    facts = dict(whole.facts)
    assert facts["command"] == "facerep evaluate --config=a.py --checkpoint=runs/farl --workdir=w"
    assert facts["checkpoint's SHA-256"] == "9f31c2d47ab0"
    assert facts["selected"].startswith("seed 0: step 40, 5.00% on validation; seed 1: ")
    assert facts["versions"] == "facerep_jax 0.1.0, jax 0.10.2"
    assert json.loads(whole.config) == {"fraction": 0.1}
    before = next(c for c in cards.cards if c.title == f"{FARL}, 10% of the labels")
    assert dict(before.facts)["command"].startswith("not recorded")
    (run,) = (part for part in laid_out.sections("Pre-training")[0].blocks if part.kind == "cards")
    assert dict(run.cards[0].facts)["seed"] == "7"


def test_published_numbers_are_apart_and_said_not_to_be_comparable(laid_out):
    (published,) = laid_out.sections("Published results")
    assert all(part.foreign and part.folded for part in published.blocks)
    assert all("not comparable" in part.title and "civil_us" in part.caption for part in published.blocks)
    ours = [p for s in laid_out.sections("Evaluation") for p in s.blocks if p.kind == "table"]
    assert not any(part.foreign for part in ours)


def test_published_numbers_of_the_same_data_set_stand_beside_ours(tmp_path, written):
    written.evaluation(tmp_path / "a", 0.06, checkpoint=written.farl, dataset="wflw/default")
    page = laid(tmp_path)
    found = table(page, "Published by others", "Landmarks on wflw/default")
    assert found.foreign
    assert not found.folded
    assert {row.cells[1] for row in found.rows} == {"WFLW full"}
    assert all("differs from ours: other protocol" in row.conditions for row in found.rows)
    assert all("verified" in row.conditions for row in found.rows if row.cells[0].startswith("FaRL"))
    assert ["second-hand" in row.conditions for row in found.rows if row.cells[0] == "PaCo-FR"] == [True]
    elsewhere = page.sections("Published results")[0].blocks[0]
    assert "WFLW full" not in {row.cells[1] for row in elsewhere.rows}


def test_the_same_workdirs_give_the_same_page(runs, laid_out):
    assert html(laid(runs)) == html(laid_out)


def test_selection_on_the_test_set_is_called_so(tmp_path, written):
    written.evaluation(tmp_path / "farl", 0.06, checkpoint=written.farl, selection="test_best")
    page = laid(tmp_path)
    assert "optimistic" in section(page, "Landmarks on civil_us").facts
    assert "optimistic" in table(page, "10%").rows[0].conditions
    assert "optimistic" in markdown(page)


def test_protocols_and_selections_do_not_mix(tmp_path, written):
    for i, (protocol, selection) in enumerate([("frozen", "last"), ("frozen", "validation"), ("finetune", "last")]):
        written.evaluation(tmp_path / str(i), 0.06, checkpoint=written.farl, protocol=protocol, selection=selection)
    assert len(laid(tmp_path).sections("Evaluation")) == 3


def test_values_that_are_not_defined(tmp_path, written):
    undefined = {"nme_inter_ocular": summary([math.nan] * 3)}
    written.evaluation(tmp_path / "farl", 0.06, checkpoint=written.farl, metrics=undefined)
    written.evaluation(tmp_path / "random", 0.1, checkpoint="random", metrics=undefined, parts=())
    page = laid(tmp_path)
    found = table(page, "10% of the labels")
    assert set(column(found, "NME, inter-ocular").values()) == {wording.NOTHING}
    assert not any(row.best for row in found.rows)
    assert html(page)


def test_errors_name_the_file_and_what_is_wrong(tmp_path, written):
    written.evaluation(tmp_path / "random", 0.1, checkpoint="random")
    spec = {"call": "facerep_jax.evaluation.metrics:NMF"}
    written.evaluation(tmp_path / "a", 0.06, checkpoint=written.farl, metric=spec)
    with pytest.raises(ValueError, match=r"results\.json: cannot build metric .*NMF"):
        laid(tmp_path)
    written.evaluation(tmp_path / "b", 0.06, checkpoint=written.farl)
    (tmp_path / "b" / "examples.parquet").write_text("no parquet")
    with pytest.raises(ValueError, match=r"examples\.parquet cannot be read"):
        laid(tmp_path / "b", tmp_path / "random")
    written.evaluation(tmp_path / "c", 0.06, checkpoint=written.farl)
    (tmp_path / "c" / "overlays.png").write_text("no image")
    with pytest.raises(ValueError, match=r"overlays\.png is not an image"):
        laid(tmp_path / "c")


def test_what_belongs_together_is_said(tmp_path, written):
    """Tried: an explanation that stands wherever there is an interval."""
    said = "Test images of one person are not independent: the interval draws people again"
    for count, name in ((60, "apart"), (15, "together")):
        folder = tmp_path / name
        for who, level in ((None, 0.08), (written.farl, 0.07)):
            words = written.landmark_words | {"belongs_to": "person"}
            checkpoint = "random" if who is None else who
            place = folder / ("random" if who is None else "farl")
            written.evaluation(place, level, checkpoint=checkpoint, words=words, test_units=count)
        page = layout.page(*workdirs.read([folder]))
        text = str(page)
        assert (said in text) == (count < 60)
        assert ("60 test images of 15 people" in text) == (count < 60)
