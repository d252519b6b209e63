"""TensorFlow as this package uses it: for files and crops, on the CPU alone."""

import functools
import os
from typing import Any


@functools.cache
def import_tensorflow() -> Any:
    """The module `tensorflow`, silenced and hidden from accelerators.

    Call it where TensorFlow is needed rather than at import, since it takes seconds to
    load. Unrestricted, TensorFlow would take all memory of an accelerator.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # prints a notice to stderr
    import tensorflow as tf

    tf.config.set_visible_devices([], "GPU")
    tf.config.set_visible_devices([], "TPU")
    return tf
