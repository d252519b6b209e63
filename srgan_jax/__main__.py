"""Makes `python -m srgan_jax` run the command `srgan-jax`."""

from srgan_jax.cli.main import app

if __name__ == "__main__":
    app(prog_name="srgan-jax")
