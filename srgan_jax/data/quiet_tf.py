"""Imports TensorFlow, which this package uses only for files and crops, on the CPU."""

import functools
import os
from typing import Any


@functools.cache
def import_tensorflow() -> Any:
    """Returns the module `tensorflow`, without log messages and accelerators.

    Call this where TensorFlow is needed, not at import time: loading it takes seconds.
    By default TensorFlow would claim all memory of an accelerator.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # prints a notice to stderr
    import tensorflow as tf

    tf.config.set_visible_devices([], "GPU")
    tf.config.set_visible_devices([], "TPU")
    return tf
