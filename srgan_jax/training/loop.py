"""Runs a training from configuration to report: `train_and_evaluate`."""

import contextlib
import dataclasses
import functools
import sys
import time
from collections.abc import Iterator, Sequence

import jax
import numpy as np

from srgan_jax.data import pipeline, sources
from srgan_jax.data.evaluation_sets import evaluation_pairs
from srgan_jax.data.source import Source
from srgan_jax.paths import AnyPath
from srgan_jax.training import (
    network_files,
    parallel,
    report,
    resume,
    runtime,
    steps,
)
from srgan_jax.training.checkpoint import Checkpoints
from srgan_jax.training.config import Config
from srgan_jax.training.lock import Lock
from srgan_jax.training.profile import Profile
from srgan_jax.training.run import Run
from srgan_jax.training.run_log import Clock, RunLog
from srgan_jax.training.stages import Stage, prepare_stages
from srgan_jax.training.state import TrainState
from srgan_jax.weights import store


class Preempted(Exception):
    """The run was told to stop and has saved; the same command resumes it."""


def train_and_evaluate(
    config: Config,
    workdir: AnyPath,
    *,
    traced: range = range(0),
    from_step: int | None = None,
    allow_config_change: bool = False,
) -> TrainState:
    """Trains all stages, or the rest of them after a resume, and writes the report.

    Args:
      config: the configuration that `resolve_config` returned.
      workdir: the run's directory. It is created, or resumed if it holds this run.
      traced: steps to trace with JAX's profiler.
      from_step: step of an older checkpoint to go back to; newer ones are deleted.
      allow_config_change: allow changed learning rates, batch size or loss weights.

    Returns:
      The final state, on the devices.

    Raises:
      ValueError: the configuration, the data or the weights are not valid, or the
        directory holds another run or is in use.
      TrainingError: a loss became NaN or infinite.
      Preempted: the process received SIGTERM or SIGINT; a checkpoint is saved.
    """
    writes = jax.process_index() == 0
    # Check all inputs before anything is written.
    parallel.check(config.batch_size, config.parallel.transform, config.accumulate)
    evaluation = config.evaluation
    pairs = evaluation_pairs(
        evaluation.source, scale=config.scale, border=evaluation.border
    )
    bicubic, enlarged = report.score(
        report.BICUBIC, report.bicubic(config), pairs, evaluation
    )
    source = open_source(config, workdir)
    stages = prepare_stages(config)

    workdir.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        lock = stack.enter_context(Lock(workdir, say)) if writes else None
        stop = stack.enter_context(runtime.StopRequest())
        checkpoints = stack.enter_context(
            Checkpoints(
                workdir / "checkpoints",
                config.checkpoint.keep,
                source.fingerprint,
                config.to_dict(),
            )
        )
        resumed_at = checkpoints.starting_step(from_step)
        changes = resume.find_changes(
            *(workdir, config, resumed_at),
            allow=allow_config_change,
            goes_back=from_step is not None,
        )
        checkpoints.check_run(resumed_at, stages)
        ahead = range(resumed_at + 1, config.last_step + 1)
        profile = Profile(workdir / "profile", traced, ahead)
        runtime.check_agreement(
            configuration=config.to_json(),
            photographs=source.fingerprint,
            checkpoint=str(resumed_at),
        )
        if writes:
            resume.write_config(workdir, config, changes, resumed_at)
            if not resumed_at:
                network_files.copy_start(workdir, config)
        runtime.wait_for_all("configuration")
        if not (workdir / resume.CONFIG).exists():
            raise ValueError(
                f"--workdir={workdir} is not visible on all hosts; choose a directory "
                "on a shared file system"
            )
        checkpoints.delete_after(resumed_at)
        log = RunLog(
            workdir, first_step=resumed_at, last_step=config.last_step, active=writes
        )
        history = resume.read_history(workdir)
        run = Run(
            *(config, workdir, profile, parallel.create_mesh(), source),
            *(pairs, enlarged, lock, checkpoints),
            *(log, stop),
            comparable_after=resume.evaluation_changed_at(history),
        )
        with log, profile:
            log.say(f"bicubic: {bicubic.mean.psnr:.4f} dB, {evaluation.protocol}")
            if resumed_at:
                log.say(f"resuming at step {resumed_at} of {config.last_step}")
            for sentence in resume.describe_recipe_changes(history):
                log.say(sentence)
            state, rate = train_stages(run, stages, resumed_at)
            run.restore_files(stages, state)
        if writes:
            if resumed_at < config.last_step or not report.is_written(workdir, config):
                report.write(workdir, config, pairs, rate)
            report.show(workdir, config)
        runtime.wait_for_all("report")
    return state


def open_source(config: Config, workdir: AnyPath) -> Source:
    """Opens the training images.

    Images in a bucket are listed once, by process 0; the others read the listing that
    it keeps in `workdir`.

    Raises:
      ValueError: there are no usable images.
    """
    in_bucket = sources.names_bucket(config.data.source)
    cache = store.cache_dir()
    opened = functools.partial(
        sources.open_source,
        config.data.source,
        minimum_size=config.data.crop,
        scale=config.scale,
        index_dir=(workdir if in_bucket else cache) / "image_sizes",
        file_cache=cache / "images",
    )
    if not in_bucket or jax.process_count() == 1:
        return opened()
    if jax.process_index() == 0:
        source = opened()
        runtime.wait_for_all("listing of the images")
        return source
    runtime.wait_for_all("listing of the images")
    return opened(relist=False)


def say(text: str) -> None:
    """Prints a line for the user before the log is open."""
    print(text, file=sys.stderr, flush=True)


def train_stages(
    run: Run, stages: Sequence[Stage], resumed_at: int
) -> tuple[TrainState, float]:
    """Runs the remaining stages.

    Returns:
      The final state, and images per second in the last stage (NaN if not measured).
    """
    for stage in stages:
        if resumed_at < stage.end or stage is stages[-1]:
            state, rate = train_stage(run, stage, resumed_at)
    return state, rate


def train_stage(run: Run, stage: Stage, resumed_at: int) -> tuple[TrainState, float]:
    """Runs one stage from its first step, or from a checkpoint inside it, to its end.

    The order within a step must stay: train, save, evaluate. Then a state saved at step
    s has consumed exactly the first s * batch_size examples, and a process killed
    during an evaluation loses no steps.

    Returns:
      The state, and images per second (NaN if no step was timed).
    """
    config = run.config
    state = run.begin(stage, resumed_at)
    start, end = int(state.step), stage.end
    for at in stage.config.decay_at:
        if at >= stage.config.steps:
            run.log.say(
                f"{stage.name}: ends before the learning rate decays at its step {at}"
            )

    transform = config.parallel.transform
    mapped = parallel.map_step(stage.step, run.mesh, transform)
    constants = parallel.replicate(stage.vgg_params, run.mesh)
    batches = parallel.feed(training_batches(run, start), run.mesh, transform)

    if start == resumed_at > 0:
        run.evaluate(stage, start, state)
    clock = Clock(config.batch_size)
    waiting: tuple[int, steps.Metrics] | None = None
    for step in range(start + 1, end + 1):
        run.check()
        run.profile.before(step, state)
        batch = next(batches)
        if step == start + 1:
            began = time.perf_counter()
            train = runtime.compile_step(mapped, state, constants, batch)
            seconds = time.perf_counter() - began
            run.log.say(f"{stage.name}: compiled in {seconds:.1f} s")
        state, metrics = train(state, constants, batch)
        stops = run.stop.reached(step)
        saves = stops or step == end or step % config.checkpoint.every == 0
        # Metrics are fetched one step late, so that an accelerator never waits for the
        # host. They are fetched at once if they are ready, as on a CPU, or if this step
        # is saved or evaluated, since only finite steps may be saved.
        if waiting is not None:
            run.record(stage, clock, *waiting)
        waiting = step, metrics
        pauses = saves or run.evaluates(stage, step)
        if pauses or state.step.is_ready():
            run.record(stage, clock, *waiting)
            waiting = None
        if pauses:
            if saves:
                run.save(stage, step, state)
            if not stops:
                run.evaluate(stage, step, state)
            clock.restart()
        if stops:
            run.checkpoints.wait()
            raise Preempted(f"stopped at step {step}; run the same command to resume")
    run.checkpoints.wait()
    return state, clock.median_rate()


def training_batches(run: Run, step: int) -> Iterator[dict[str, np.ndarray]]:
    """Yields this process's share of the global batches from `step` on."""
    settings = dataclasses.asdict(run.config.data)
    del settings["source"]
    skips = settings.pop("on_damage") == "skip"
    return pipeline.training_batches(
        run.source,
        **settings,
        on_skip=run.note_skipped if skips else None,
        batch_size=run.config.batch_size,
        scale=run.config.scale,
        seed=run.config.seed,
        first_step=step,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )
