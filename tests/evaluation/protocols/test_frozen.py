import numpy as np

from facerep_jax.config import spec
from facerep_jax.data.pipeline import build_transforms
from facerep_jax.data.transforms import CropToBox
from facerep_jax.evaluation.protocols.frozen import FrozenEncoder
from facerep_jax.schedules import warmup_cosine
from facerep_jax.train.optim import adamw
from tests.evaluation.problems import HELD_OUT, ROWS, SIZE, error, make_encoder, mean_shape_error, weights


def test_a_frozen_encoder_sees_augmented_images_and_learns_nothing(problem):
    before = weights(problem)
    dropping = problem._replace(encoder=make_encoder(drop_path=0.9))  # which it must not do
    optimizer = spec(adamw, learning_rate=5e-3, weight_decay=1e-2, clip_norm=1.0, schedule=spec(warmup_cosine))
    settings = dict(steps=60, rounds=3, batch_size=16, optimizer=optimizer)
    outcomes = [FrozenEncoder(**settings).prepare(p)(ROWS, HELD_OUT, 0) for p in (problem, dropping)]
    assert error(problem, outcomes[0].prediction) < 0.9 * mean_shape_error(problem, ROWS)
    np.testing.assert_array_equal(outcomes[0].prediction, outcomes[1].prediction)
    for path, new in weights(problem).items():
        np.testing.assert_array_equal(before[path], new)
    shifted = problem._replace(transforms=build_transforms([spec(CropToBox, size=SIZE, margin=0.2, shift=0.3)]))
    augmented = FrozenEncoder(**settings).prepare(shifted)(ROWS, HELD_OUT, 0)
    assert np.abs(augmented.prediction - outcomes[0].prediction).max() > 0.1
