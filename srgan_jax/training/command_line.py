"""The command line of train.py: its arguments, its messages and its exit status.

Exit status: 0 done; 1 the run failed; 2 wrong usage; 75 told to stop, saved, and to be
run again.
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

from srgan_jax.training import saved_config

RESUME_ME = 75  # EX_TEMPFAIL
# XLA's kinds of errors that no other process has caused
OWN_FAULTS = ("INVALID_ARGUMENT", "RESOURCE_EXHAUSTED", "UNIMPLEMENTED")
FIELD = re.compile(r"-{1,2}config\.(?P<path>[^=]+)(?P<value>=.*)?", re.DOTALL)


def define_flags() -> None:
    """Defines the flags of train.py."""
    config_flags.DEFINE_config_file("config", help_string="FILE[:variant]")
    flags.DEFINE_string("workdir", None, "default: runs/<config>-<variant>")
    flags.DEFINE_bool("distributed", False, "join the other hosts of a pod")
    flags.DEFINE_string("profile", None, "trace the steps from START:STOP")
    flags.DEFINE_bool("print_config", False, "print the configuration and end")
    flags.DEFINE_integer("from_step", None, "go back to the checkpoint of this step")
    flags.DEFINE_bool(
        "allow_config_change",
        False,
        "continue with changed rates, batch size, EMA or weights of losses",
    )
    flags.register_validator("profile", _is_range, "expected START:STOP, as in 100:110")
    flags.register_validator(
        "workdir",
        lambda path: path is None or "://" not in path,
        "expected a directory; a bucket must be mounted",
    )


def parse(argv: list[str]) -> list[str]:
    """absl's parser, with one line for a mistyped flag or field instead of a trace."""
    try:
        argv[:] = normalise(argv)
        sys.argv = argv  # config_flags looks there for fields
        if any(re.match("-{1,2}(no)?jax_", argument) for argument in argv):
            import jax  # it takes seconds, and defines flags

            jax.config.config_with_absl()
        rest = flags.FLAGS(argv)
        if len(rest) > 1:
            raise ValueError(f"{rest[1]} is no flag; fields are --config.field=value")
        if flags.FLAGS.config is None:
            raise ValueError("give --config=configs/srgan.py or another configuration")
        _ = flags.FLAGS.config.stages  # a file that cannot be read fails at first use
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
        if "Traceback" in text:  # of a configuration file: the last line is its message
            text = text.strip().splitlines()[-1]
        print(f"error: {' '.join(text.split())}", file=sys.stderr)
        raise SystemExit(2) from None


def normalise(argv: Sequence[str]) -> list[str]:
    """The arguments as config_flags reads them.

    A configuration in JSON is given to `saved_config`, and a stage's name becomes its
    number: `--config.stages.adversarial.steps` is `--config.stages[1].steps`.

    Raises:
      ValueError: there is no such field; the message has the nearest name.
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
            _ = config.stages  # a file that cannot be read fails at first use
            path = _find_field(given["path"], config)
            argument = f"--config.{path}{given['value'] or ''}"
        normal.append(argument)
    return normal


def main(_: Sequence[str]) -> int | None:
    """Trains as the flags say.

    Returns:
      The exit status.
    """
    given = flags.FLAGS
    # Until there is anything to save, and once everything is saved.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(RESUME_ME))
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before JAX, which sets 1
    import jax

    from srgan_jax.training import runtime
    from srgan_jax.training.loop import Preempted
    from srgan_jax.training.run import TrainingError

    runtime.silence_libraries()
    runtime.enable_compilation_cache()
    try:
        if given.distributed:
            # JAX ends a process that has lost another by an abort, and says why: the
            # stacks of all threads would bury it.
            faulthandler.disable()
            runtime.initialize_distributed()
        _run(given)
    except Preempted as stop:
        left_out = "" if given.from_step is None else " once --from_step is left out"
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
            f"error: another process of this run has ended ({cause}). See what it says "
            "and start all of them again: they continue from the newest checkpoint"
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
    workdir = Path(given.workdir or f"runs/{file.stem}-{given.config.variant}")
    if is_saved and "preset" not in overrides:  # its fields are resolved already
        overrides |= set(_leaves(given.config.to_dict()))
    recorded = resume.recorded_config(workdir)
    config = resolve_config(given.config, overrides, recorded)
    if given.print_config:
        print(config.to_json(), end="")
        return
    print(f"workdir: {workdir}", flush=True)
    if not given.distributed:
        runtime.reuse_memory()
    start, stop = map(int, given.profile.split(":")) if given.profile else (0, 0)
    loop.train_and_evaluate(
        config,
        workdir,
        traced=range(start, stop),
        from_step=given.from_step,
        allow_config_change=given.allow_config_change,
    )


def _fail(message: str) -> int:
    """Prints why; the other processes of a distributed run have to notice at once."""
    print(message, file=sys.stderr, flush=True)
    if flags.FLAGS.distributed:
        os._exit(1)  # an orderly end would wait for them, and they for this process
    return 1


def _is_range(steps: str | None) -> bool:
    if steps is None:
        return True
    found = re.fullmatch(r"(\d+):(\d+)", steps)
    return found is not None and 0 < int(found[1]) < int(found[2])


def _find_field(path: str, config: ConfigDict) -> str:
    """The path of a field, stages by number."""
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
    """The position of a stage by its name or number."""
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
    """Paths of all fields: `data.crop`."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name
