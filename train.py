"""Trains an SRGAN: python train.py --config=configs/srgan.py[:variant]

The same command resumes a run. See training/command_line.py for the exit status.
"""

from absl import app

from srgan_jax.training import command_line

command_line.define_flags()

if __name__ == "__main__":
    app.run(command_line.main, flags_parser=command_line.parse)
