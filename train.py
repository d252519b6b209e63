"""Trains an SRGAN: python train.py --config=configs/srgan.py[:variant]

The same command resumes a run. Exit status: 0 done; 1 the run failed; 2 wrong usage;
75 told to stop, saved, and to be run again.
"""

import faulthandler
import logging
import os
import re
import signal
import sys
import warnings
from pathlib import Path

from absl import app, flags
from ml_collections import config_flags

CONFIG = config_flags.DEFINE_config_file("config", help_string="FILE[:variant]")
WORKDIR = flags.DEFINE_string("workdir", None, "default: runs/<config>-<variant>")
DISTRIBUTED = flags.DEFINE_bool("distributed", False, "join the other hosts of a pod")
PROFILE = flags.DEFINE_string("profile", None, "trace the steps from START:STOP")
RESUME_ME = 75  # EX_TEMPFAIL
# of XLA's kinds of errors those that no other process has caused
OWN_FAULTS = ("INVALID_ARGUMENT", "RESOURCE_EXHAUSTED", "UNIMPLEMENTED")


@flags.validator("profile", message="expected START:STOP, such as 100:110")
def _is_range(steps: str | None) -> bool:
    if steps is None:
        return True
    found = re.fullmatch(r"(\d+):(\d+)", steps)
    return found is not None and 0 < int(found[1]) < int(found[2])


@flags.validator("workdir", message="expected a directory; a bucket must be mounted")
def _is_path(workdir: str | None) -> bool:
    return workdir is None or "://" not in workdir


def main(_: list[str]) -> int | None:
    # until there is anything to save, and once everything is saved
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(RESUME_ME))
    silence_libraries()
    import jax

    from srgan_jax.training import config as settings
    from srgan_jax.training import loop, parallel

    parallel.enable_compilation_cache()
    overrides = config_flags.get_override_values(flags.FLAGS["config"])
    profile = range(*map(int, PROFILE.value.split(":"))) if PROFILE.value else range(0)
    try:
        if DISTRIBUTED.value:
            # JAX ends a process that has lost another by an abort, and says why: the
            # stacks of all threads would bury it
            faulthandler.disable()
            parallel.initialize_distributed()
        config = settings.resolve(CONFIG.value, overrides)
        name = Path(config_flags.get_config_filename(flags.FLAGS["config"])).stem
        workdir = Path(WORKDIR.value or f"runs/{name}-{config.variant}")
        print(f"workdir: {workdir}", flush=True)
        if not DISTRIBUTED.value:
            parallel.reuse_memory()
        loop.train_and_evaluate(config, workdir, profile)
    except loop.Preempted as stop:
        print(stop, file=sys.stderr)
        return RESUME_ME
    except (ValueError, OSError, loop.TrainingError) as error:
        return fail(f"error: {error}")
    except jax.errors.JaxRuntimeError as error:
        if not DISTRIBUTED.value:
            raise
        cause = str(error).partition("\n")[0]
        if cause.startswith(OWN_FAULTS):
            return fail(f"error: {cause}")
        return fail(
            f"error: another process of this run has ended ({cause}). See what it says "
            "and start all of them again: they continue from the newest checkpoint"
        )
    return None


def fail(message: str) -> int:
    """Says why; the others of a distributed run shall notice at once."""
    print(message, file=sys.stderr, flush=True)
    if DISTRIBUTED.value:
        os._exit(1)  # an orderly end would wait for them, and they for this process
    return 1


def silence_libraries() -> None:
    """What they raise is told in one sentence; they would log traces of it as well."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before JAX, which sets 1
    logging.getLogger().setLevel("WARNING")  # absl says INFO
    for name in ("absl", "asyncio"):  # as Orbax uses them
        logging.getLogger(name).setLevel("CRITICAL")

    def ignore_closed_loop(raised: "sys.UnraisableHookArgs") -> None:
        """Orbax leaves the other writers behind where one of them fails."""
        if "Event loop is closed" not in str(raised.exc_value):
            sys.__unraisablehook__(raised)

    sys.unraisablehook = ignore_closed_loop
    warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)


def parse(argv: list[str]) -> list[str]:
    """absl's parser, with one line for a mistyped flag or field instead of a trace."""
    try:
        rest = flags.FLAGS(argv)
        if len(rest) > 1:
            raise ValueError(f"{rest[1]} is no flag; fields are --config.field=value")
        if CONFIG.value is None:
            raise ValueError("give --config=configs/srgan.py or another configuration")
        _ = CONFIG.value.stages  # a file that cannot be read fails at first use
        return rest
    except (
        flags.Error,
        AttributeError,
        LookupError,
        OSError,
        TypeError,
        ValueError,
    ) as error:
        text = str(error)
        if "Traceback" in text:  # of a configuration file: its last line says it all
            text = text.strip().splitlines()[-1]
        print(f"error: {' '.join(text.split())}", file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    app.run(main, flags_parser=parse)
