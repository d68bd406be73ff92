import json

from facerep_jax.reporting import explanations, workdirs
from facerep_jax.reporting.lines import encoder_names, ordered_lines


def of(folder, compared=True):
    evaluations, _ = workdirs.read([folder])
    return explanations.of_lines(ordered_lines(evaluations, encoder_names(evaluations)), compared=compared)


def test_only_what_is_in_the_section_is_explained(tmp_path, written):
    words = written.landmark_words
    learnt = words["protocols"]["linear_probe"]
    written.evaluation(tmp_path / "a" / "x", 0.06, checkpoint=written.farl)
    want = (*words["metrics"], learnt, explanations.SELECTIONS["validation"], explanations.SPREAD)
    assert of(tmp_path / "a") == (*want, explanations.INTERVAL)
    assert of(tmp_path / "a", compared=False) == want
    written.evaluation(tmp_path / "b" / "x", 0.06, checkpoint=written.farl, seeds=(0,))
    assert of(tmp_path / "b", compared=False) == want[:-1]


def test_every_protocol_of_the_section_is_explained_once(tmp_path, written):
    one = {"metrics": {}, "protocol": "finetune", "trains_encoder": True}
    for name in ("a", "b"):
        written.evaluation(tmp_path / name, 0.06, checkpoint=written.farl)
    both = written.landmark_words["protocols"]
    assert both["finetune"] not in of(tmp_path)
    written.evaluation(tmp_path / "c", 0.06, checkpoint="random")
    path = tmp_path / "c" / "results.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"baselines": {"scratch": one}}))
    found = of(tmp_path)
    assert [text for text in found if text in both.values()] == [both["linear_probe"], both["finetune"]]


def test_what_is_not_known_is_left_out(tmp_path, written):
    over = {"protocol": "new", "selection": "new", "words": {}}
    written.evaluation(tmp_path / "a", 0.06, checkpoint=written.farl, seeds=(0,), **over)
    assert of(tmp_path, compared=False) == ()
