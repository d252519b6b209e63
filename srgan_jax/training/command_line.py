"""The command line of train.py: its arguments, its messages and its exit status.

Exit status: 0 if the run is finished, 1 if it failed, 2 for wrong usage, and 75 if the
run was told to stop and has saved: run the same command again to continue.
"""

import difflib
import faulthandler
import os
import re
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags
from ml_collections.config_flags.config_flags import ConfigFileFlagParser

from srgan_jax import buckets, paths
from srgan_jax.training import saved_config

RESUME_ME = 75  # EX_TEMPFAIL
# XLA's kinds of errors that another process cannot have caused.
OWN_FAULTS = ("INVALID_ARGUMENT", "RESOURCE_EXHAUSTED", "UNIMPLEMENTED")
FIELD = re.compile(r"-{1,2}config\.(?P<path>[^=]+)(?P<value>=.*)?", re.DOTALL)


def define_flags() -> None:
    """Defines the flags of train.py."""
    config_flags.DEFINE_config_file("config", help_string="FILE[:variant]")
    flags.DEFINE_string("workdir", None, "default: runs/<config>-<variant>")
    flags.DEFINE_bool("distributed", False, "join the other hosts of a pod")
    flags.DEFINE_string("profile", None, "trace steps START to STOP - 1: START:STOP")
    flags.DEFINE_bool("print_config", False, "print the configuration and exit")
    flags.DEFINE_integer("from_step", None, "go back to the checkpoint of this step")
    flags.DEFINE_bool(
        "allow_config_change",
        False,
        "continue with changed learning rates, batch size, EMA or loss weights",
    )
    flags.register_validator("profile", _is_range, "expected START:STOP, as in 100:110")
    flags.register_validator("workdir", _is_path)


def parse(argv: list[str]) -> list[str]:
    """Parses flags as absl does; a wrong flag or field gives one line and status 2."""
    try:
        argv[:] = normalise(argv)
        sys.argv = argv  # config_flags looks there for fields
        if any(re.match("-{1,2}(no)?jax_", argument) for argument in argv):
            import jax  # here, because the import takes seconds

            jax.config.config_with_absl()
        rest = flags.FLAGS(argv)
        if len(rest) > 1:
            raise ValueError(
                f"{rest[1]} is not a flag; set fields with --config.field=value"
            )
        if flags.FLAGS.config is None:
            raise ValueError("give --config=configs/srgan.py or another configuration")
        _ = flags.FLAGS.config.stages  # the configuration is read at its first use
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
        if "Traceback" in text:  # the last line of a configuration's trace says why
            text = text.strip().splitlines()[-1]
        print(f"error: {' '.join(text.split())}", file=sys.stderr)
        raise SystemExit(2) from None


def normalise(argv: Sequence[str]) -> list[str]:
    """Rewrites arguments into the form that config_flags reads.

    `saved_config` reads a configuration in JSON, and a stage's name becomes its number:
    `--config.stages.adversarial.steps` becomes `--config.stages[1].steps`.

    Raises:
      ValueError: there is no such field; the message suggests the nearest name.
    """
    arguments, normal, config = iter(argv), [], None
    for argument in arguments:
        if argument in ("-config", "--config"):
            argument = f"--config={next(arguments, '')}"
        if given := re.fullmatch("--?config=(.*)", argument):
            file = given[1]
            if file.endswith(".json"):
                file = f"{saved_config.__file__}:{file}"
            elif not Path(file.partition(":")[0]).is_file():
                raise ValueError(f"there is no configuration file {file}")
            argument = f"--config={file}"
            config = ConfigFileFlagParser("config").parse(file)
        elif config is not None and (given := FIELD.fullmatch(argument)):
            _ = config.stages  # the configuration is read at its first use
            path = _find_field(given["path"], config)
            argument = f"--config.{path}{given['value'] or ''}"
        normal.append(argument)
    return normal


def main(_: Sequence[str]) -> int | None:
    """Trains as the flags say.

    Returns:
      The exit status; None is 0.
    """
    given = flags.FLAGS
    # These handlers hold until there is something to save, and after the last save.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(RESUME_ME))
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before JAX, which sets 1
    import jax

    from srgan_jax.training import runtime
    from srgan_jax.training.loop import Preempted
    from srgan_jax.training.run import TrainingError

    runtime.silence_libraries()
    try:
        runtime.enable_compilation_cache()
        if given.distributed:
            # If a process dies, JAX aborts the others and prints the reason. The stacks
            # of all threads would hide that reason.
            faulthandler.disable()
            runtime.initialize_distributed()
        _run(given)
    except Preempted as stop:
        left_out = "" if given.from_step is None else " without --from_step"
        print(f"{stop}{left_out}", file=sys.stderr)
        return RESUME_ME
    except (ValueError, OSError, TrainingError) as error:
        return _fail(f"error: {error}")
    except jax.errors.JaxRuntimeError as error:
        if not given.distributed:
            raise
        cause = str(error).partition("\n")[0]
        if cause.startswith(OWN_FAULTS):
            return _fail(f"error: {cause}")
        return _fail(
            f"error: another process of this run has ended ({cause}); see its output, "
            "then start all processes again: they continue from the newest checkpoint"
        )
    return None


def _run(given: flags.FlagValues) -> None:
    from srgan_jax.training import loop, resume, runtime
    from srgan_jax.training.resolve import resolve_config

    overrides = set(config_flags.get_override_values(given["config"]))
    file = Path(config_flags.get_config_filename(given["config"]).partition(":")[0])
    is_saved = file == Path(saved_config.__file__)
    if is_saved and not given.workdir and not given.print_config:
        raise ValueError("give --workdir with the config.json of a run")
    workdir = paths.parse(given.workdir or f"runs/{file.stem}-{given.config.variant}")
    if is_saved and "preset" not in overrides:  # its fields are resolved already
        overrides |= set(_leaves(given.config.to_dict()))
    recorded = resume.recorded_config(workdir)
    config = resolve_config(given.config, overrides, recorded)
    if given.print_config:
        print(config.to_json(), end="")
        return
    print(f"workdir: {workdir}", flush=True)
    if config.deterministic:
        runtime.make_deterministic(workdir)
    if not given.distributed:
        runtime.check_alone(requested=bool(given["distributed"].present))
        runtime.reuse_memory()
    start, stop = map(int, given.profile.split(":")) if given.profile else (0, 0)
    with runtime.device_errors(workdir):
        loop.train_and_evaluate(
            config,
            workdir,
            traced=range(start, stop),
            from_step=given.from_step,
            allow_config_change=given.allow_config_change,
        )


def _fail(message: str) -> int:
    """Prints the reason and ends the process so that the others notice at once."""
    print(message, file=sys.stderr, flush=True)
    in_bucket = (flags.FLAGS.workdir or "").startswith(buckets.SCHEME)
    if flags.FLAGS.distributed or in_bucket:
        # An orderly exit would deadlock, since all processes wait for each other, or
        # would wait for saves in a bucket that does not answer.
        os._exit(1)
    return 1


def _is_path(text: str | None) -> bool:
    try:
        paths.parse(text or "")
    except ValueError as error:
        raise flags.ValidationError(str(error)) from error
    return True


def _is_range(steps: str | None) -> bool:
    if steps is None:
        return True
    found = re.fullmatch(r"(\d+):(\d+)", steps)
    return found is not None and 0 < int(found[1]) < int(found[2])


def _find_field(path: str, config: ConfigDict) -> str:
    """Returns the path of a field, in which stages have numbers."""
    node, found = config, ""
    for name in re.findall(r"[^.\[\]]+", path):
        if isinstance(node, tuple):
            index = _find_stage(name, node, found)
            node, found = node[index], f"{found}[{index}]"
            continue
        if not isinstance(node, ConfigDict) or name not in node:
            known = list(node) if isinstance(node, ConfigDict) else []
            near = difflib.get_close_matches(name, known, n=1)
            raise ValueError(
                f"there is no field config.{path}"
                + (
                    f"; did you mean {found}{'.' * bool(found)}{near[0]}?"
                    if near
                    else f"; {found or 'config'} has {', '.join(known) or 'no fields'}"
                )
            )
        node, found = node[name], f"{found}{'.' * bool(found)}{name}"
    return found


def _find_stage(name: str, stages: tuple[ConfigDict, ...], found: str) -> int:
    """Returns the position of a stage that is given by name or number."""
    names = [getattr(stage, "name", str(i)) for i, stage in enumerate(stages)]
    if name in names:
        return names.index(name)
    if re.fullmatch(r"-?\d+", name) and -len(stages) <= int(name) < len(stages):
        return int(name) % len(stages)
    listed = ", ".join(f"{found}[{i}] ({n})" for i, n in enumerate(names))
    near = difflib.get_close_matches(name, names, n=1)
    raise ValueError(
        f"there is no config.{found} {name}; "
        + (f"did you mean {near[0]}?" if near else f"there are {listed or 'none'}")
    )


def _leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Yields the paths of all fields, such as `data.crop`."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name
