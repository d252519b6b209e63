"""TensorFlow reads photographs and takes no memory of an accelerator."""

import re
import subprocess
import sys
from pathlib import Path

import srgan_jax


def test_tensorflow_is_imported_in_one_place():
    importing = [
        path.name
        for path in Path(srgan_jax.__file__).parent.rglob("*.py")
        if re.search(r"^ *(import|from) tensorflow\b", path.read_text(), re.MULTILINE)
    ]
    assert importing == ["quiet_tf.py"]


def test_tensorflow_sees_no_accelerator():
    code = """
from unittest import mock
import tensorflow as tf
with mock.patch.object(tf.config, "set_visible_devices") as hide:
    from srgan_jax.data.quiet_tf import import_tensorflow
    import_tensorflow()
assert hide.call_args_list == [mock.call([], "GPU"), mock.call([], "TPU")]
assert tf.config.get_visible_devices("GPU") == []
"""
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert run.returncode == 0, run.stderr
