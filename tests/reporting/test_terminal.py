"""Charts as text, against hand-made ones."""

import numpy as np
import pytest
from PIL import Image

from facerep_jax.reporting import terminal
from facerep_jax.reporting.terminal import ASCII, BLOCKS


def test_columns_are_means_of_what_falls_together_and_lines_between_what_is_apart():
    x = np.arange(8)
    np.testing.assert_allclose(terminal.columns(x, x.astype(float), 4), [0.5, 2.5, 4.5, 6.5])
    np.testing.assert_allclose(terminal.columns(np.array([0, 8]), np.array([0.0, 8.0]), 4), [0, 3, 5, 8])
    gap = terminal.columns(np.arange(4), np.array([1.0, np.nan, np.nan, 1.0]), 4)
    np.testing.assert_array_equal(np.isnan(gap), [False, True, True, False])
    assert np.isnan(terminal.columns(x, np.full(8, np.nan), 3)).all()
    np.testing.assert_array_equal(terminal.columns(np.array([5]), np.array([2.0]), 3), [2, 2, 2])


def test_blocks_are_filled_from_below():
    values = np.linspace(0, 1, 16)
    assert terminal.block_chart(values, 2, BLOCKS) == ["        ▁▂▃▄▅▆▇█", "▁▂▃▄▅▆▇█████████"]
    assert terminal.block_chart(np.array([0, 1, np.nan, 2]), 1, ASCII) == [".: |"]
    assert terminal.block_chart(np.ones(3), 1, ASCII) == [":::"]
    assert terminal.block_chart(np.array([0.5]), 1, BLOCKS, (0.0, 1.0)) == [BLOCKS[5]]


def test_a_chart_has_its_ends_beside_it_and_no_line_is_wider_than_asked():
    x, y = np.arange(1, 2001), np.linspace(9, 2, 2000)
    lines = terminal.chart("loss", x, y, 40, 4, BLOCKS)
    assert lines[0] == "loss 2"
    assert lines[1].split()[0] == "8.884"
    assert lines[4].split()[0] == "2.116"
    assert lines[-1].split() == ["1", "2,000"]
    assert {len(line) for line in lines[1:]} == {40}
    line = terminal.sparkline("a_term_whose_name_is_rather_long/loss", x, y, 60, BLOCKS)
    assert len(line) == 60
    assert line.startswith("a_term_whose_name_is_rathe..         2 ")


@pytest.mark.parametrize(
    ("encoding", "levels"), [("utf-8", BLOCKS), ("ascii", ASCII), ("latin-1", ASCII), (None, ASCII), ("?", ASCII)]
)
def test_an_encoding_without_blocks_gets_ascii(encoding, levels):
    assert terminal.levels_of(encoding) == levels


def test_a_picture_is_dark_where_it_is_dark(tmp_path):
    image = np.zeros((20, 80, 3), np.uint8)
    image[:, 20:40] = 255
    Image.fromarray(image).save(tmp_path / "sheet.png")
    rows = terminal.picture(tmp_path / "sheet.png", 20)
    assert rows == ["          " + "@" * 10] * 5
    coloured = terminal.picture(tmp_path / "sheet.png", 20, colours=True)
    assert coloured[0].count("▀") == 20
    assert coloured[0].endswith("38;2;255;255;255m\x1b[48;2;255;255;255m▀\x1b[0m")
    (tmp_path / "broken.png").write_bytes(b"no image")
    assert terminal.picture(tmp_path / "broken.png", 20) == []
