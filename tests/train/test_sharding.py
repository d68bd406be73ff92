from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import PartitionSpec as P

from facerep_jax.models.vit import ViT
from facerep_jax.train import sharding
from facerep_jax.train.state import flat, split

TREE = {
    "params": {"encoder": {"blocks": {"query": {"kernel": jnp.zeros((2, 16, 8)), "bias": jnp.zeros((2, 8))}}}},
    "opt_state": ({"mu": {"encoder": {"blocks": {"query": {"kernel": jnp.zeros((2, 16, 8))}}}}},),
}


def test_one_size_takes_the_rest_of_the_devices():
    mesh = sharding.make_mesh({"replica": 2, "fsdp": -1, "model": 1})
    assert dict(mesh.shape) == {"replica": 2, "fsdp": 4, "model": 1}


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"fspd": 8}, "did you mean 'fsdp'"),
        ({"replica": 3, "fsdp": -1}, "does not hold the 8 devices"),
        ({"replica": -1, "fsdp": -1}, "one at most is -1"),
        ({"fsdp": 0}, "sizes are positive"),
    ],
)
def test_a_mesh_that_cannot_be_is_refused(sizes, message):
    with pytest.raises(ValueError, match=message):
        sharding.make_mesh(sizes)


@dataclass(frozen=True)
class Chip:
    """A device as far as the layout of a mesh looks at it."""

    id: int
    slice_index: int
    process_index: int
    device_kind: str = "cpu"
    platform: str = "cpu"


@pytest.mark.parametrize(
    ("sizes", "axis"), [({"replica": 4, "fsdp": 2}, 0), ({"replica": 2, "model": 4}, 0), ({"fsdp": 4, "model": 2}, 1)]
)
def test_slices_lie_along_the_axis_that_talks_least(sizes, axis):
    """Tried: jax.make_mesh, which refuses."""
    chips = [Chip(i, i % 2, i % 2) for i in range(8)]
    grid = sharding.make_mesh(sizes, chips).devices
    assert grid.shape == tuple(sizes.get(name, 1) for name in sharding.AXES)
    assert {chip.id for chip in grid.flat} == set(range(8))
    for half, index in zip(np.split(grid, 2, axis), (0, 1), strict=True):
        assert {chip.slice_index for chip in half.flat} == {index}


def test_slices_that_no_axis_can_hold_are_refused():
    chips = [Chip(i, i // 2, i // 2) for i in range(6)]
    with pytest.raises(ValueError, match="3 slices divide neither replica nor fsdp"):
        sharding.make_mesh({"fsdp": 2, "model": 3}, chips)


def test_a_batch_that_does_not_divide_is_refused_with_the_nearest_that_does():
    mesh = sharding.make_mesh({"fsdp": -1})
    sharding.check_batch(64, mesh)
    with pytest.raises(ValueError, match=r"60 is not divisible by the 8 devices .* nearest that is: 64"):
        sharding.check_batch(60, mesh)


def test_rules_go_by_path_and_serve_parameters_and_optimizer_alike():
    mesh = sharding.make_mesh({"fsdp": -1})
    found = sharding.shardings(TREE, mesh, sharding.rules_of("fsdp", {}))
    blocks = found["params"]["encoder"]["blocks"]["query"]
    assert blocks["kernel"].spec == P(None, "fsdp", None)
    assert blocks["bias"].spec == P()
    assert found["opt_state"][0]["mu"]["encoder"]["blocks"]["query"]["kernel"].spec == P(None, "fsdp", None)
    for leaf in jax.tree.leaves(sharding.shardings(TREE, mesh, sharding.rules_of("replicated", {}))):
        assert leaf.spec == P()


def test_an_axis_that_does_not_divide_is_named():
    mesh = sharding.make_mesh({"fsdp": -1})
    tree = {"blocks": {"up": {"kernel": jnp.zeros((2, 12, 8))}}}
    with pytest.raises(ValueError, match=r"blocks/up/kernel of shape \(2, 12, 8\) cannot be split 8 ways along axis 1"):
        sharding.shardings(tree, mesh, sharding.rules_of("fsdp", {}))


def test_an_unknown_rule_set_is_named():
    with pytest.raises(ValueError, match="did you mean 'fsdp'"):
        sharding.rules_of("fspd", {})
    with pytest.raises(ValueError, match="did you mean 'channels'"):
        sharding.rules_of("chanels", {"channels": ()})


def test_rules_of_a_config_come_before_those_of_an_encoder_and_those_before_the_table():
    """Tried: the encoder's first; the table's first."""
    tree = {name: {"up": {"kernel": jnp.zeros((2, 16, 8))}} for name in ("blocks", "more", "mine")}
    of_encoder = {"fsdp": ((r"(more|mine)/.*kernel$", (None, None, "fsdp")),), "channels": ((r"kernel$", "largest"),)}
    mesh = sharding.make_mesh({"fsdp": -1})

    def specs(name, more=()):
        found = sharding.shardings({"encoder": tree}, mesh, sharding.rules_of(name, of_encoder, more))["encoder"]
        return {name: below["up"]["kernel"].spec for name, below in found.items()}

    table, last = P(None, "fsdp", None), P(None, None, "fsdp")
    assert specs("fsdp") == {"blocks": table, "more": last, "mine": last}
    assert specs("fsdp", [("mine/.*kernel$", (None, None, None))])["mine"] == P(None, None, None)
    assert specs("replicated") == dict.fromkeys(tree, P())
    assert specs("channels") == dict.fromkeys(tree, table)  # a set that only the encoder has


def test_rules_of_an_encoder_are_for_it_and_its_teachers_alone():
    own = {"stem": {"kernel": jnp.zeros((8, 16))}}
    objective = {"terms": {"contrast": {"teacher": own, "teacher_projector": own}}, "text_encoder": own}
    tree = {"params": {"encoder": own, "objective": objective}, "ema": {"params": {"encoder": own}}}
    rules = sharding.rules_of("fsdp", {"fsdp": ((r"kernel$", "largest"), ("^never", (None, None)))})
    found = sharding.shardings(tree, sharding.make_mesh({"fsdp": -1}), rules)
    split = {path for path, leaf in flat(found).items() if leaf.spec == P(None, "fsdp")}
    assert split == {
        "params/encoder/stem/kernel",
        "ema/params/encoder/stem/kernel",
        "params/objective/terms/contrast/teacher/stem/kernel",
    }


def test_a_rule_for_another_number_of_axes_is_passed_over():
    """A convolution's kernel has four axes: the rule for matrices does not fit it, the next one does."""
    rules = ((r"kernel$", (None, "fsdp")), (r"kernel$", (None, None, None, "fsdp")))
    tree = {"embed": {"kernel": jnp.zeros((3, 8))}, "stem": {"kernel": jnp.zeros((3, 3, 4, 16)), "bias": jnp.zeros(16)}}
    found = sharding.shardings(tree, sharding.make_mesh({"fsdp": -1}), rules)
    assert found["embed"]["kernel"].spec == P(None, "fsdp")
    assert found["stem"]["kernel"].spec == P(None, None, None, "fsdp")
    assert found["stem"]["bias"].spec == P()
    short = sharding.shardings(tree, sharding.make_mesh({"fsdp": -1}), rules[:1])
    assert short["stem"]["kernel"].spec == P()


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (("querry/kernel$", (None, "fsdp", None)), "has 'querry/kernel.', which matches no parameter; .*query/kernel"),
        (("query/(", ()), r"has 'query/\(', which is no regular expression"),
        (("kernel$", (None, "fspd", None)), "has .* with mesh axis 'fspd'; did you mean 'fsdp'"),
        (("kernel$", (None, "fsdp", "fsdp")), "has .* with mesh axis 'fsdp' more than once"),
        (
            ("kernel$", (None, "fsdp")),
            r"has .* with 2 axes, which no array has that it matches: .* of shape \(2, 16, 8\)",
        ),
    ],
)
def test_a_rule_of_a_config_that_does_nothing_is_refused(rule, message):
    sharding.check_rules([(r"(kernel|bias)$", (None, "fsdp")), ("kernel$", sharding.LARGEST)], TREE)
    with pytest.raises(ValueError, match=f"sharding_rules {message}"):
        sharding.check_rules([rule], TREE)


@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((3, 3, 64, 128), (None, None, None, "fsdp")),
        ((3, 3, 64, 100), (None, None, "fsdp", None)),  # the largest does not divide
        ((16, 16), ("fsdp", None)),  # of two that are as large, the first
        ((7, 7, 3, 20), (None, None, None, None)),
        ((), ()),
    ],
)
def test_the_largest_axis_that_divides_is_split(shape, axes):
    assert sharding.largest_axis(shape, 8) == axes


def test_an_encoders_rule_may_split_kernels_of_any_shape_and_leaves_those_that_do_not_divide():
    of_encoder = {"fsdp": ((r"kernel$", sharding.LARGEST),)}
    tree = {"stem": {"kernel": jnp.zeros((7, 7, 3, 24))}, "output": {"kernel": jnp.zeros((1, 1, 5, 9))}}
    mesh, rules = sharding.make_mesh({"fsdp": -1}), sharding.rules_of("fsdp", of_encoder)
    found = sharding.shardings({"encoder": tree}, mesh, rules)["encoder"]
    assert found["stem"]["kernel"].spec == P(None, None, None, "fsdp")
    assert found["output"]["kernel"].spec == P(None, None, None, None)


def test_a_global_batch_keeps_rows_in_order_and_lies_on_all_devices():
    mesh = sharding.make_mesh({"replica": 2, "fsdp": -1})
    rows = np.arange(16, dtype=np.uint32)
    batch = sharding.global_batch({"position": rows}, mesh)["position"]
    np.testing.assert_array_equal(batch, rows)
    assert len(batch.sharding.device_set) == 8
    assert {shard.data.shape for shard in batch.addressable_shards} == {(2,)}


def test_both_kernels_of_a_stem_are_split_as_a_linear_patch_embedding_is():
    sizes = dict(variant="Nano/8", image_size=16, width=32, depth=1, heads=2, dtype="float32", remat="none")
    vit = nnx.eval_shape(lambda: ViT(**sizes, stem=16, rngs=nnx.Rngs(0)))
    found = flat(sharding.shardings(split(vit)[1], sharding.make_mesh({"fsdp": -1}), sharding.rules_of("fsdp", {})))
    assert {path for path, leaf in found.items() if path.startswith("embed") and leaf.spec == P(None, "fsdp")} == {
        "embed/up/kernel",
        "embed/down/kernel",
    }
