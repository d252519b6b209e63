"""TensorFlow as this package uses it: for files and crops, silent, on the CPU alone.

`from srgan_jax.data.tensorflow import tf` in the function that needs it, since the
import takes seconds. TensorFlow would otherwise take the accelerator's whole memory.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # announces itself on stderr

import tensorflow as tf

tf.config.set_visible_devices([], "GPU")
tf.config.set_visible_devices([], "TPU")

__all__ = ["tf"]
