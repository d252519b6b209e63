"""Four simulated CPU devices for every test; set before JAX is first used."""

import os

os.environ["JAX_PLATFORMS"] = "cpu"
# tiny programs: compiling them takes longer than running them
os.environ["XLA_FLAGS"] = "--xla_backend_optimization_level=0"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import jax

jax.config.update("jax_num_cpu_devices", 4)
