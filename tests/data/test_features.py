import numpy as np
import pytest

from facerep_jax.data import features

SIZES = {"landmarks": 3, "attributes": 2, "action_units": 1, "vertices": 4}
MORE = {"template": (np.int32, ()), "pose": (np.float32, (3,)), "depth": (np.float32, ("landmarks",))}


def test_every_number_has_a_missing_value_of_its_type_and_shape():
    for name, (dtype, dimensions) in {**features.NUMBERS, **MORE}.items():
        missing = features.missing(name, SIZES, MORE)
        assert missing.dtype == dtype
        assert missing.shape == features.shape(dimensions, SIZES)
        assert np.isnan(missing).all() if dtype is np.float32 else (missing == -1).all()


def test_features_have_the_shapes_of_the_data_set():
    found = features.features_dict((*features.NAMES, *MORE), SIZES, MORE)
    assert tuple(found) == (*features.NAMES, *MORE)
    assert found["landmarks"].shape == (3, 2)
    assert found["template"].shape == ()
    assert found["depth"].shape == (3,)
    assert found["pose"].np_dtype is np.float32


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"mask": (np.int32, ())}, "feature 'mask' must be an identifier that is none of id, image"),
        ({"a b": (np.int32, ())}, "feature 'a b' must be an identifier"),
        ({"pose": (np.float64, ())}, r"feature 'pose' must be np\.float32 or np\.int32, not .*float64"),
    ],
)
def test_features_that_cannot_be_added(more, message):
    with pytest.raises(ValueError, match=message):
        features.check_more(more)
