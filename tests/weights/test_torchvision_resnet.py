"""torchvision's layout against its description, and FRL's and SwAV's prefixes.

What torchvision makes of the same arrays: tests/parity/test_resnet.py. Planted and seen red: rows and columns swapped
with the channels; a bias for a mean.
"""

import numpy as np
import pytest
import safetensors.numpy

from facerep_jax import weights
from facerep_jax.train import handover
from facerep_jax.weights import torchvision_resnet

WIDE = {"18": ((2, 2, 2, 2), 1, 1), "50": ((3, 4, 6, 3), 4, 1), "50-wide": ((3, 4, 6, 3), 4, 2)}


def described(variant, channels=64):
    """Names and shapes, as torchvision.models.resnet makes them, without the classifier."""
    blocks, expansion, widen = WIDE[variant]
    shapes = {"conv1.weight": (channels, 3, 7, 7), **norm("bn1", channels)}
    before = channels
    for stage, count in enumerate(blocks, 1):
        width = channels * 2 ** (stage - 1)
        for index in range(count):
            place, inner, out = f"layer{stage}.{index}", width * widen, width * expansion
            convs = [(width, before, 3, 3), (width, width, 3, 3)]
            if expansion == 4:
                convs = [(inner, before, 1, 1), (inner, inner, 3, 3), (out, inner, 1, 1)]
            for number, shape in enumerate(convs, 1):
                shapes |= {f"{place}.conv{number}.weight": shape, **norm(f"{place}.bn{number}", shape[0])}
            if not index and (stage > 1 or before != out):
                shapes |= {f"{place}.downsample.0.weight": (out, before, 1, 1), **norm(f"{place}.downsample.1", out)}
            before = out
    rng = np.random.default_rng(0)
    return {name: rng.standard_normal(shape, np.float32) for name, shape in shapes.items()}


def norm(place, width):
    return {f"{place}.{leaf}": (width,) for leaf in ("weight", "bias", "running_mean", "running_var")}


@pytest.mark.parametrize("variant", WIDE)
def test_the_variant_is_told_by_names_and_shapes_and_arrays_come_back(variant):
    theirs = described(variant, channels=8)
    assert torchvision_resnet.encoder(theirs) == {
        "call": "facerep_jax.models.resnet:ResNet",
        "variant": variant,
        "channels": 8,
    }
    ours = torchvision_resnet.imported(theirs)
    back = torchvision_resnet.exported(ours)
    assert back.keys() == theirs.keys()
    for name, x in theirs.items():
        np.testing.assert_array_equal(back[name], x)
    np.testing.assert_array_equal(
        ours["groups/1/0/shortcut/kernel"][0, 0], theirs["layer2.0.downsample.0.weight"][..., 0, 0].T
    )
    np.testing.assert_array_equal(ours["stem/kernel"][3, 5, 1], theirs["conv1.weight"][:, 1, 3, 5])
    np.testing.assert_array_equal(ours["stem/norm/mean"], theirs["bn1.running_mean"])


@pytest.mark.parametrize(
    ("prefix", "more", "std"),
    [
        ("", {"fc.weight": (1000, 256), "fc.bias": (1000,), "bn1.num_batches_tracked": ()}, None),
        ("module.", {"module.projection_head.0.weight": (8, 8), "module.prototypes.weight": (9, 8)}, 0.228),
        ("module.base_net.", {"module.projection_net.net.3.bias": (8,), "module.prototypes.weight": (9, 8)}, 0.228),
    ],
)
def test_prefixes_classifiers_and_prototypes_are_left_out(prefix, more, std, tmp_path):
    """As torchvision, SwAV and FRL have them; the last two normalise by another deviation of red."""
    plain = described("18", channels=4)
    theirs = {f"{prefix}{name}": x for name, x in plain.items()} | {k: np.zeros(s, np.float32) for k, s in more.items()}
    assert weights.recognised(theirs) is torchvision_resnet
    spec, ours = torchvision_resnet.encoder(theirs), torchvision_resnet.imported(theirs)
    assert spec.get("std", (None,))[0] == std
    expected = torchvision_resnet.imported(plain)
    assert ours.keys() == expected.keys()
    for path, x in expected.items():
        np.testing.assert_array_equal(ours[path], x)
    file = tmp_path / "net.safetensors"
    safetensors.numpy.save_file(theirs, file)
    handed = handover.encoder(str(file))
    np.testing.assert_array_equal(handed.encoder.stem.norm.variance[...], plain["bn1.running_var"])
    assert handed.encoder.std[0] == (std or 0.229)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x.pop("conv1.weight"), r"no array 'conv1\.weight'"),
        (lambda x: x.pop("layer2.1.bn2.running_var"), r"no array 'layer2\.1\.bn2\.running_var'"),
        (lambda x: x.update({"layer1.0.conv1.bias": np.ones(4)}), r"the array 'layer1\.0\.conv1\.bias' is unknown"),
        (lambda x: x.update({"head.weight": np.ones(4)}), r"the array 'head\.weight' is unknown"),
        (lambda x: x.update({"layer4.2.conv1.weight": np.ones((4, 4, 3, 3))}), "no published one"),
    ],
)
def test_missing_and_unknown_arrays_are_named(change, message):
    theirs = described("18", channels=4)
    change(theirs)
    with pytest.raises(ValueError, match=message):
        torchvision_resnet.encoder(theirs)


@pytest.mark.parametrize("path", ["stem/bias", "groups/0/0/convs/0/norm/gamma", "blocks/query/kernel"])
def test_ours_that_are_unknown_are_named(path):
    with pytest.raises(ValueError, match=path):
        torchvision_resnet.their_name(path)
