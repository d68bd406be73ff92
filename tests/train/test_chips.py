import pytest

from facerep_jax.train.chips import CHIPS, topology


def test_every_chip_has_a_peak_and_figures():
    for chip in CHIPS.values():
        assert chip.peak > 1e14
        assert min(chip.memory, chip.bandwidth, chip.network, chip.beyond, chip.of_host) > 0


@pytest.mark.parametrize(
    ("text", "kind", "count"),
    [
        ("v5e:16x16", "TPU v5 lite", 256),
        ("v4:2x4x4", "TPU v4", 32),
        ("v5p:4x4x4", "TPU v5", 64),
        ("H100:64", "NVIDIA H100", 64),
    ],
)
def test_topologies(text, kind, count):
    chip, chips = topology(text)
    assert (chip.kind, chips) == (kind, count)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("v5:4x4", "no chip 'v5'; did you mean"),
        ("v5e", "is CHIP:AxB"),
        ("v5e:16", "such as v5e:16x16, v4:2x4x4 or H100:64, not v5e:16"),
        ("v5e:0x4", "is CHIP:AxB"),
        ("H100:", "is CHIP:AxB"),
    ],
)
def test_others_are_refused(text, message):
    with pytest.raises(ValueError, match=message):
        topology(text)
