"""One run from configuration to report: `train_and_evaluate(config, workdir)`.

Refuses a batch that does not divide over the devices and a directory that holds another
run; stops at the first loss that is not finite.
"""

import dataclasses
import functools
import json
import math
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from srgan_jax import paths
from srgan_jax.data import pipeline, sources
from srgan_jax.data.evaluation_sets import evaluation_pairs
from srgan_jax.data.pairs import Pair
from srgan_jax.data.source import Source
from srgan_jax.training import config as settings
from srgan_jax.training import parallel, report, stages, steps
from srgan_jax.training.checkpoint import Checkpoints
from srgan_jax.training.profile import Profile
from srgan_jax.training.run_log import Clock, RunLog, finite
from srgan_jax.training.state import TrainState
from srgan_jax.weights import store


class TrainingError(RuntimeError):
    """A run that cannot go on; the message says why and what is safe."""


class Preempted(Exception):
    """The run was told to stop and has saved; the same command resumes it."""


@dataclasses.dataclass(frozen=True)
class Run:
    """What stays the same from stage to stage."""

    config: ConfigDict
    workdir: Path
    profile: Profile
    mesh: jax.sharding.Mesh
    source: Source
    pairs: list[Pair]
    enlarged: list[np.ndarray]
    checkpoints: Checkpoints
    log: RunLog

    @property
    def writes(self) -> bool:
        return jax.process_index() == 0


def train_and_evaluate(
    config: ConfigDict, workdir: Path, traced: range = range(0)
) -> TrainState:
    """Trains all stages, or what is left of them, and writes the report.

    Args:
      config: as `settings.resolve` returns it.
      workdir: the run's directory; made if need be, resumed if it holds this run.
      traced: steps to trace with JAX's profiler.

    Returns:
      The final state, on the devices.

    Raises:
      ValueError: the configuration, the data or the weights are not what they must be.
      TrainingError: a loss became NaN or infinite.
      Preempted: SIGTERM came; a checkpoint is saved.
    """
    writes = jax.process_index() == 0
    evaluation, last_step = config.evaluation, sum(s.steps for s in config.stages)
    # All that can be wrong is found before anything is written.
    parallel.check(config.batch_size, config.parallel.transform)
    pairs = evaluation_pairs(
        evaluation.source, scale=config.generator.scale, border=evaluation.border
    )
    bicubic, enlarged = report.score(
        report.BICUBIC, report.bicubic(config), pairs, evaluation
    )
    source = sources.open_source(
        config.data.source,
        minimum_size=config.data.crop,
        scale=config.generator.scale,
        index_dir=store.cache_dir() / "image_sizes",
    )
    plan = stages.plan(config)

    workdir.mkdir(parents=True, exist_ok=True)
    if writes:
        settings.claim(workdir, config, write=True)
    checkpoints = Checkpoints(
        workdir / "checkpoints", config.checkpoint.keep, source.fingerprint
    )
    resumed_at = checkpoints.latest_step() or 0
    parallel.check_agreement(
        configuration=config.to_json_best_effort(sort_keys=True),
        photographs=source.fingerprint,
        checkpoint=str(resumed_at),
    )
    settings.claim(workdir, config, write=False)
    checkpoints.check_run(resumed_at, plan)
    ahead = range(resumed_at + 1, last_step + 1)
    profile = Profile(workdir / "profile", traced, ahead)
    log = RunLog(workdir, first_step=resumed_at, last_step=last_step, active=writes)
    mesh = parallel.create_mesh()
    run = Run(config, workdir, profile, mesh, source, pairs, enlarged, checkpoints, log)
    with checkpoints, log, profile:
        log.say(f"bicubic: {bicubic.mean.psnr:.4f} dB, {evaluation.protocol}")
        if resumed_at:
            log.say(f"resuming at step {resumed_at} of {last_step}")
        rate = math.nan
        for stage in plan:
            if resumed_at < stage.end or stage is plan[-1]:
                state, rate = train_stage(run, stage, resumed_at)
    if writes:
        if not report.is_finished(workdir, last_step):
            report.write(
                workdir, config, pairs, steps=last_step, images_per_second=rate
            )
        report.show(workdir)
    parallel.wait_for_all("report")
    return state


def train_stage(
    run: Run, stage: stages.Stage, resumed_at: int
) -> tuple[TrainState, float]:
    """Runs one stage from its first step, or from a checkpoint inside it, to its end.

    The order of what happens at a step must not change: step, save, evaluation. A
    state saved at step s has consumed exactly the examples before s * batch_size, and
    what kills the run in an evaluation, however long, takes no step from it.

    Returns:
      The state, and images a second (NaN if no step was timed).
    """
    config = run.config
    state = stages.begin(config, stage, run.checkpoints, run.mesh, resumed_at)
    start, end = int(state.step), stage.end
    for at in stage.config.decay_at:
        if at >= stage.config.steps:
            run.log.say(f"{stage.name}: ends before the rate decays at its step {at}")

    transform = config.parallel.transform
    mapped = parallel.map_step(stage.update, run.mesh, transform)
    constants = parallel.replicate(stage.vgg_params, run.mesh)
    batches = parallel.feed(training_batches(run, start), run.mesh, transform)

    if start == resumed_at > 0:
        evaluate(run, stage, start, state)
    clock = Clock(config.batch_size)
    waiting: tuple[int, steps.Metrics] | None = None
    for step in range(start + 1, end + 1):
        run.checkpoints.check()
        run.profile.before(step, state)
        batch = next(batches)
        if step == start + 1:
            began = time.perf_counter()
            update = parallel.compile_step(mapped, state, constants, batch)
            seconds = time.perf_counter() - began
            run.log.say(f"{stage.name}: compiled in {seconds:.1f} s")
        state, metrics = update(state, constants, batch)
        stops = run.checkpoints.reached_preemption(step)
        saves = stops or step == end or step % config.checkpoint.every == 0
        # Metrics are fetched one step late, so that an accelerator never waits for the
        # host, unless they are there already, as a CPU's are; before anything is kept
        # of this step they must be known to be finite.
        if waiting is not None:
            record(run, stage, *waiting, clock)
        waiting = step, metrics
        pauses = saves or evaluates(run, stage, step)
        if pauses or state.step.is_ready():
            record(run, stage, *waiting, clock)
            waiting = None
        if pauses:
            if saves:
                save(run, stage, step, state)
            if not stops:
                evaluate(run, stage, step, state)
            clock.restart()
        if stops:
            run.checkpoints.wait()
            raise Preempted(f"stopped at step {step}; the same command resumes")
    run.checkpoints.wait()
    return state, clock.median_rate()


def evaluates(run: Run, stage: stages.Stage, step: int) -> bool:
    """Whether the generator is scored at a step."""
    return step == stage.end or step % run.config.evaluation.every == 0


def evaluate(run: Run, stage: stages.Stage, step: int, state: TrainState) -> None:
    """Scores the generator where that is due, unless the log has it already.

    The best one of the stage so far is kept in a file of its own.
    """
    of_stage = stage.config
    if step == stage.first > 0:  # the last of the stage before, which evaluates there
        of_stage = run.config.stages[stage.index - 1]
    elif not evaluates(run, stage, step):
        return
    if run.writes and not run.log.has_scores(step):
        scores = report.evaluate(
            run.config, run.pairs, run.enlarged, state.ema, run.log, step
        )
        if report.is_best(of_stage, scores, run.log.scores(of_stage.name)):
            store.save_generator(
                report.generator_file(run.workdir, "best"),
                run.config.generator.to_dict(),
                jax.device_get(state.ema),
                stage=of_stage.name,
                step=step,
                scores=finite(scores),
            )
        run.log.scalars(step, of_stage.name, scores)


def save(run: Run, stage: stages.Stage, step: int, state: TrainState) -> None:
    """Saves a checkpoint, and at the end of a stage the files of its networks."""
    if step == stage.end and run.writes:
        variables = jax.device_get(state.ema)
        for path in (
            report.generator_file(run.workdir, stage.name),
            report.generator_file(run.workdir),
        ):
            store.save_generator(path, run.config.generator.to_dict(), variables)
        if state.discriminator is not None:
            store.save_discriminator(
                run.workdir / "discriminator.safetensors",
                run.config.discriminator.to_dict(),
                jax.device_get(state.discriminator.variables),
            )
    run.checkpoints.save(step, state, stage.name, stage.first)


def training_batches(run: Run, step: int) -> Any:
    """This process's share of the global batches from `step` on."""
    data = run.config.data
    return pipeline.training_batches(
        run.source,
        batch_size=run.config.batch_size,
        crop=data.crop,
        scale=run.config.generator.scale,
        seed=run.config.seed,
        first_step=step,
        flips=data.flips,
        rotations=data.rotations,
        exposure=data.exposure,
        graded=data.graded,
        border=data.border,
        degradation=data.degradation,
        on_skip=functools.partial(note_skipped, run)
        if data.on_damage == "skip"
        else None,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )


def note_skipped(run: Run, image: str, reason: str) -> None:
    """Says once that an image is damaged, and lists it in skipped.json."""
    path = run.workdir / "skipped.json"
    names = json.loads(path.read_text()) if path.exists() else []
    if run.writes and image not in names:
        with paths.replacing(path) as unfinished:
            unfinished.write_text(json.dumps([*names, image], indent=2) + "\n")
        run.log.say(f"skipped: {reason}; the next image of its epoch takes its place")


def record(
    run: Run, stage: stages.Stage, step: int, metrics: steps.Metrics, clock: Clock
) -> None:
    """Logs the metrics of a step.

    Raises:
      TrainingError: one of them is NaN or infinite.
    """
    values = {name: float(value) for name, value in jax.device_get(metrics).items()}
    wrong = [name for name, value in values.items() if not math.isfinite(value)]
    if wrong:
        run.checkpoints.wait()
        saved = run.checkpoints.latest_step()
        good = f"the checkpoint of step {saved}" if saved else "none was saved yet"
        raise TrainingError(
            f"step {step} of stage {stage.name}: {', '.join(wrong)} is not finite; "
            f"last good checkpoint in {run.workdir}: {good}"
        )
    rate = clock.tick()
    if rate is not None:
        values["images_per_second"] = rate
    run.log.scalars(step, stage.name, values, events=step % run.config.log_every == 0)
    run.log.show(step, stage.name, values)
