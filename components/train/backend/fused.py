"""Operations of TensorFlow's that do at once what Keras does in a dozen, with the same values and variables.

On two cores a training step takes about two thirds of the time with them, and its first call half
(benchmarks/training.py). Keras with JAX needs none of this: its compiler joins the operations.
"""

import keras
from keras import ops


class FusedBatchNormalization(keras.layers.BatchNormalization):
    """Batch norm over the last of four axes."""

    def call(self, inputs, training=None, mask=None):
        if not (training and self.trainable):
            # Of given statistics the fused gradient is not deterministic on GPUs.
            return super().call(inputs, training=training, mask=mask)
        import tensorflow as tf

        mean, variance = (ops.convert_to_tensor(v) for v in (self.moving_mean, self.moving_variance))
        outputs, batch_mean, batch_variance = tf.compat.v1.nn.fused_batch_norm(
            inputs,
            ops.convert_to_tensor(self.gamma),
            ops.convert_to_tensor(self.beta),
            epsilon=self.epsilon,
        )
        # It estimates the variance of all that there could be, Keras takes the batch's own.
        count = tf.cast(tf.reduce_prod(tf.shape(inputs)[:-1]), batch_variance.dtype)
        biased = batch_variance * (count - 1) / count
        self.moving_mean.assign(mean * self.momentum + batch_mean * (1 - self.momentum))
        self.moving_variance.assign(variance * self.momentum + biased * (1 - self.momentum))
        return outputs


class FusedAdamW(keras.optimizers.AdamW):
    """AdamW of which each variable is moved by one operation after its decay."""

    def _apply_weight_decay(self, variables):
        """Left to update_step, since here the rate would be computed for every variable."""

    def update_step(self, gradient, variable, learning_rate):
        import tensorflow as tf

        rate = tf.cast(learning_rate, variable.dtype)
        if self.weight_decay:
            variable.assign_sub(variable * (self.weight_decay * rate))
        index = self._get_variable_index(variable)
        step = tf.cast(self.iterations + 1, variable.dtype)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].value.handle,
            v=self._velocities[index].value.handle,
            beta1_power=tf.pow(self.beta_1, step),
            beta2_power=tf.pow(self.beta_2, step),
            lr=rate,
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=tf.cast(gradient, variable.dtype),
        )


def fuse(network: keras.Model) -> keras.Model:
    """A network with the same weights whose batch norms are fused; the same network on another backend."""
    if keras.backend.backend() != "tensorflow":
        return network
    fused = keras.models.clone_model(network, clone_function=_fused, recursive=True)
    fused.set_weights(network.get_weights())
    return fused


def _fused(layer: keras.Layer) -> keras.Layer:
    if type(layer) is keras.layers.BatchNormalization:
        return FusedBatchNormalization.from_config(layer.get_config())
    return layer.__class__.from_config(layer.get_config())
