import json

import pytest

from facerep_jax.train.samples import Ledger, of_all_processes


def test_ids_are_sorted_text():
    assert of_all_processes(["b", "ä", "a"]) == ["a", "b", "ä"]


@pytest.mark.parametrize("left", ["", '{"step": 1, "ids": []}\n', '{"step": 1, "ids": []}\n{"st', '{"st'])
def test_a_line_that_was_cut_is_removed(tmp_path, left):
    path = tmp_path / "ledger.jsonl"
    path.write_text(left)
    ledger = Ledger(path)
    ledger.write(2, ["x"], loss="nan")
    ledger.close()
    steps = [json.loads(line)["step"] for line in path.read_text().splitlines()]
    assert steps == ([1, 2] if "[]" in left else [2])
    assert json.loads(path.read_text().splitlines()[-1]) == {"step": 2, "ids": ["x"], "loss": "nan"}
