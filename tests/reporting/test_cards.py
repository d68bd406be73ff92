from facerep_jax.reporting import cards, lines, workdirs


def made_from(folder):
    evaluations, pretrainings = workdirs.read([folder])
    ordered = lines.ordered_lines(evaluations, lines.encoder_names(evaluations))
    return [cards.evaluation_card(line) for line in ordered] + [cards.pretraining_card(run) for run in pretrainings]


def test_a_card_of_an_old_result_says_what_was_not_recorded(tmp_path, written):
    written.evaluation(tmp_path / "a", 0.1, checkpoint="random", versions=None, config=None)
    (card,) = made_from(tmp_path)
    facts = dict(card.facts)
    assert facts["command"] == cards.UNKNOWN
    assert facts["checkpoint"].startswith("random")
    assert "checkpoint's SHA-256" not in facts
    assert [facts[k] for k in ("data set's digest", "selected", "versions")] == ["not recorded"] * 3
    assert card.config == ""


def test_a_card_of_a_run(tmp_path, written):
    written.pretraining(tmp_path / "a")
    (tmp_path / "a" / "command.txt").write_text("facerep pretrain --config=x.py\n")
    (card,) = made_from(tmp_path)
    facts = dict(card.facts)
    assert (facts["command"], facts["data set"], facts["seed"]) == ("facerep pretrain --config=x.py", "civil_us", "7")
    assert '"batch_size": 256' in card.config
    (tmp_path / "a" / "command.txt").unlink()
    (tmp_path / "a" / "config.json").unlink()
    (card,) = made_from(tmp_path)
    assert dict(card.facts)["command"] == "not recorded"


def test_a_file_without_steps_is_named_as_it_was_given(tmp_path, written):
    file = written.farl | {"path": "weights/clip.pt", "step": None, "weights": "open_clip"}
    written.evaluation(tmp_path / "a", 0.1, checkpoint=written.farl)
    written.evaluation(tmp_path / "b", 0.1, checkpoint=file)
    facts = [dict(card.facts) for card in made_from(tmp_path)]
    named = {(each["checkpoint"], each["checkpoint's weights"]) for each in facts}
    assert named == {("runs/farl@20000", "ema"), ("weights/clip.pt", "open_clip")}
