"""`python -m srgan_jax` is `srgan-jax`."""

from srgan_jax.cli.main import app

app(prog_name="srgan-jax")
