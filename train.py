"""Trains an SRGAN: python train.py --config=configs/srgan.py[:VARIANT]

The same command resumes a run. training/command_line.py lists the exit statuses.
"""

from absl import app

from srgan_jax.training import command_line

command_line.define_flags()

if __name__ == "__main__":
    app.run(command_line.main, flags_parser=command_line.parse)
