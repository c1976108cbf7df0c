"""Fused operations do what Keras's own do."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from small_network import build_small

from defectline.components.train.backend.fused import FusedAdamW, FusedBatchNormalization, fuse
from defectline.components.train.network import build_network, freeze_encoder

RNG = np.random.default_rng(0)
PICTURES = RNG.uniform(0, 255, (3, 32, 32, 1)).astype(np.float32)


def randomized(network: keras.Model) -> keras.Model:
    network.set_weights([RNG.uniform(0.5, 1.5, w.shape).astype(np.float32) for w in network.get_weights()])
    return network


def layers_of(network: keras.Model) -> list[keras.Layer]:
    return [*network.get_layer("encoder").layers, *network.layers]


def stepped(network: keras.Model) -> tuple[np.ndarray, list[np.ndarray]]:
    """What the network gives in training, and the gradients of its sum of squares."""
    with tf.GradientTape() as tape:
        given = network(PICTURES, training=True)
        loss = tf.reduce_sum(tf.square(tf.cast(given, tf.float32)))
    gradients = tape.gradient(loss, [v.value for v in network.trainable_variables])
    return np.asarray(tf.cast(given, tf.float32)), [np.asarray(g) for g in gradients]


def test_the_real_network_is_the_same_but_for_its_batch_norms():
    network = build_network(32, decoder="light", batch_norm_momentum=0.7)
    fused = fuse(network)
    assert [w.path for w in fused.weights] == [w.path for w in network.weights]
    assert [w.trainable for w in fused.weights] == [w.trainable for w in network.weights]
    assert (fused.name, [layer.name for layer in fused.layers]) == (
        network.name,
        [layer.name for layer in network.layers],
    )
    for one, other in zip(layers_of(network), layers_of(fused), strict=True):
        norm = isinstance(one, keras.layers.BatchNormalization)
        assert type(other) is (FusedBatchNormalization if norm else type(one))
        assert not norm or (other.momentum, other.epsilon) == (one.momentum, one.epsilon)
    assert np.allclose(fused(PICTURES), network(PICTURES), atol=1e-5)


@pytest.mark.parametrize("frozen", ["", "bn_Conv1"])
def test_values_gradients_and_statistics_are_those_of_keras(frozen: str):
    network = randomized(build_small(32))
    fused = fuse(network)
    for each in (network, fused):
        freeze_encoder(each, frozen)
    (given, gradients), (found, others) = stepped(network), stepped(fused)
    assert np.allclose(found, given, atol=1e-4)
    for gradient, other in zip(gradients, others, strict=True):
        assert np.allclose(other, gradient, rtol=1e-3, atol=1e-4 * np.abs(gradient).max())
    for weight, other in zip(network.weights, fused.weights, strict=True):
        assert np.allclose(other.numpy(), weight.numpy(), rtol=1e-5), weight.path
    assert np.allclose(fused(PICTURES), network(PICTURES), atol=1e-4)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_keeps_its_statistics_in_float32(policy: str):
    keras.config.set_dtype_policy(policy)
    try:
        network = build_small(32)
        fused = fuse(network)
    finally:
        keras.config.set_dtype_policy("float32")
    given, found = stepped(network)[0], stepped(fused)[0]
    assert np.allclose(found, given, atol=0.05)
    for weight, other in zip(network.weights, fused.weights, strict=True):
        assert other.dtype == "float32"
        assert np.allclose(other.numpy(), weight.numpy(), rtol=0.05, atol=0.05), weight.path


def test_adam_moves_as_that_of_keras():
    values = {}
    for kind in (keras.optimizers.AdamW, FusedAdamW):
        variables = [keras.Variable(np.linspace(-1, 1, 6, dtype=np.float32)), keras.Variable(np.float32(2))]
        optimizer = kind(0.1, weight_decay=0.04, name="optimizer")
        optimizer.build(variables)
        for step in range(5):
            gradients = [tf.sin(v.value * (step + 1)) for v in variables]
            optimizer.apply(gradients)
        values[kind] = [v.numpy() for v in (*variables, *optimizer.variables)]
    for one, other in zip(*values.values(), strict=True):
        # They round 1 - beta differently.
        assert np.allclose(one, other, rtol=1e-4, atol=1e-6)
