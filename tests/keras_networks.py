"""Models of Keras under `gated`: run by `test_libraries.py` with JAX as the backend."""

import numpy as np
import pytest


def main() -> None:
    """A functional, a sequential and a subclassed model; the logits in evaluation, and the names of sites."""
    import keras
    from keras import layers
    from test_libraries import IMAGES, check

    import dmbp_jax

    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__()
            self.stem, self.norm = layers.Conv2D(4, 3, name="stem"), layers.BatchNormalization()
            self.drop, self.head = layers.Dropout(0.5), layers.Dense(5, name="head")

        def call(self, x, training=False):
            h = keras.ops.relu(self.norm(self.stem(x), training=training))
            return self.head(self.drop(keras.ops.mean(h, axis=(1, 2)), training=training))

    images = keras.Input((12, 12, 3))
    h = layers.BatchNormalization()(layers.Conv2D(4, 3, name="stem")(images))
    h = layers.Dropout(0.5)(layers.MaxPooling2D(name="pool")(layers.ReLU(name="active")(h)))
    functional = keras.Model(images, layers.Dense(5, name="head")(layers.GlobalAveragePooling2D()(h)))
    sequential = keras.Sequential(
        [
            layers.Conv2D(4, 3, activation="relu", name="stem"),
            layers.GlobalMaxPooling2D(),
            layers.Dense(5, name="head"),
        ]
    )
    with pytest.raises(dmbp_jax.InputError, match=r"call it once, model\(images\[:1\]\)"):
        dmbp_jax.gated(Subclassed())
    for model, sites in (
        (functional, ["stem", "active.relu", "pool.max_pool", "head"]),
        (sequential, ["stem", "stem.relu", "head"]),
        (Subclassed(), ["stem", "relu", "head"]),
    ):
        model(IMAGES[:1])
        fill(model)
        both = (model.trainable_variables, model.non_trainable_variables)
        parts = [[variable.value for variable in variables] for variables in both]
        made = check(model, (lambda p, x, m=model: m.stateless_call(*p, x, training=False)[0], parts), sites)
        expected = model(IMAGES, training=False)
        np.testing.assert_allclose(made.apply(made.params, IMAGES), expected, rtol=1e-5, atol=1e-6)
        assert made.apply == dmbp_jax.gated(model).apply


def fill(model) -> None:
    """Draw the variables: as they are made, batch statistics do nothing."""
    random = np.random.default_rng(0)
    for variable in model.variables:
        if len(variable.shape) > 1:
            variable.assign(0.3 * random.standard_normal(variable.shape))
        elif np.issubdtype(variable.dtype, np.floating):
            variable.assign(random.uniform(0.5, 1.5, variable.shape))


if __name__ == "__main__":
    main()
