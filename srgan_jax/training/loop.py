"""One run from configuration to report: `train_and_evaluate(config, workdir)`.

Refuses a batch that does not divide over the devices and a directory that holds another
run; stops at the first loss that is not finite.
"""

import dataclasses
import functools
import math
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from srgan_jax.data import pipeline, sources
from srgan_jax.training import parallel, report, settings, steps
from srgan_jax.training.checkpoint import Checkpoints
from srgan_jax.training.logging import Clock, RunLog
from srgan_jax.training.state import TrainState, Variables, create_network
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
    profile: range
    mesh: jax.sharding.Mesh
    source: sources.Source
    pairs: list[pipeline.Pair]
    checkpoints: Checkpoints
    log: RunLog

    @property
    def writes(self) -> bool:
        return jax.process_index() == 0


def train_and_evaluate(
    config: ConfigDict, workdir: Path, profile: range = range(0)
) -> TrainState:
    """Trains all stages, or what is left of them, and writes the report.

    Args:
      config: as `settings.resolve` returns it.
      workdir: the run's directory; made if need be, resumed if it holds this run.
      profile: steps to trace with JAX's profiler.

    Returns:
      The final state, on the devices.

    Raises:
      ValueError: the configuration, the data or the weights are not what they must be.
      TrainingError: a loss became NaN or infinite.
      Preempted: SIGTERM came; a checkpoint is saved.
    """
    parallel.check_batch_size(config.batch_size)
    workdir.mkdir(parents=True, exist_ok=True)
    settings.claim(workdir, config, write=jax.process_index() == 0)
    evaluation, last_step = config.evaluation, sum(s.steps for s in config.stages)
    pairs = pipeline.evaluation_pairs(
        evaluation.source, scale=config.generator.scale, border=evaluation.border
    )
    source = sources.open_source(config.data.source, minimum_size=config.data.crop)
    checkpoints = Checkpoints(workdir / "checkpoints", config.checkpoint.keep)
    resumed_at = checkpoints.latest_step() or 0
    log = RunLog(
        workdir,
        first_step=resumed_at,
        last_step=last_step,
        active=jax.process_index() == 0,
    )
    mesh = parallel.create_mesh()
    run = Run(config, workdir, profile, mesh, source, pairs, checkpoints, log)
    with log:
        if resumed_at:
            log.say(f"resuming at step {resumed_at} of {last_step}")
        state, rate = train_stages(run, resumed_at)
    checkpoints.close()
    if run.writes:
        if not report.is_finished(workdir, last_step):
            report.write(
                workdir, config, pairs, steps=last_step, images_per_second=rate
            )
        report.show(workdir)
    return state


def train_stages(run: Run, resumed_at: int) -> tuple[TrainState, float]:
    """The final state, and images a second in the last stage (NaN if none was run)."""
    stages = run.config.stages
    firsts = [sum(s.steps for s in stages[:i]) for i in range(len(stages))]
    if resumed_at:
        run.checkpoints.check_stage(resumed_at, dict(zip(firsts, stages, strict=True)))
    last = len(stages) - 1
    for i, (first, stage) in enumerate(zip(firsts, stages, strict=True)):
        if i == last or resumed_at < first + stage.steps:
            state, rate = train_stage(run, i, first, resumed_at)
    return state, rate


def train_stage(
    run: Run, index: int, first: int, resumed_at: int
) -> tuple[TrainState, float]:
    """Runs one stage from its first step, or from a checkpoint inside it, to its end.

    The order of what happens at a step must not change: step, evaluation, save. A
    state saved at step s has consumed exactly the examples before s * batch_size.
    """
    config, stage = run.config, run.config.stages[index]
    end = first + stage.steps
    vgg_params, preprocessing = None, "caffe"
    if settings.content_layer(stage.content):
        vgg_params, preprocessing = store.load_vgg19(config.content.weights)
    recipe = settings.recipe(config, stage, preprocessing)
    state = begin_stage(run, recipe, index, first, resumed_at)
    start = int(state.step)

    transform = config.parallel.transform
    function = steps.adversarial_step if stage.adversarial else steps.pretrain_step
    step_function = parallel.compile_step(
        functools.partial(function, recipe), run.mesh, transform
    )
    constants = parallel.replicate(vgg_params, run.mesh)
    batches = parallel.feed(training_batches(run, start), run.mesh, transform)

    clock = Clock(config.batch_size)
    waiting: tuple[int, steps.Metrics] | None = None
    for step in range(start + 1, end + 1):
        trace(run, step)
        state, metrics = step_function(state, constants, next(batches))
        stops = run.checkpoints.reached_preemption(step)
        evaluates = step == end or step % config.evaluation.every == 0
        saves = stops or step == end or step % config.checkpoint.every == 0
        # Metrics are fetched one step late, so that the device never waits for the
        # host; before anything is kept of this step they must be known to be finite.
        if waiting is not None:
            record(run, stage, *waiting, clock)
        waiting = step, metrics
        if step == start + 1:
            jax.block_until_ready(metrics)
            run.log.say(f"{stage.name}: first step, compiled, in {clock.age():.0f} s")
        if evaluates or saves:
            record(run, stage, *waiting, clock)
            waiting = None
            if evaluates and run.writes:
                values = report.evaluate(config, run.pairs, state.ema, run.log, step)
                run.log.scalars(step, stage.name, values)
            if saves:
                save(run, stage, first, step, state)
            clock.restart()
        if stops:
            run.checkpoints.close()
            raise Preempted(f"stopped at step {step}; the same command resumes")
    run.checkpoints.wait()
    return state, clock.median_rate()


def trace(run: Run, step: int) -> None:
    """Begins or ends the profile at the steps that were asked for."""
    if run.profile and step == run.profile.start:
        jax.profiler.start_trace(run.workdir / "profile")
    if run.profile and step == run.profile.stop:
        jax.profiler.stop_trace()


def save(run: Run, stage: ConfigDict, first: int, step: int, state: TrainState) -> None:
    """Saves a checkpoint, and at the end of a stage its generator's file."""
    if step == first + stage.steps and run.writes:
        variables = jax.device_get(state.ema)
        for path in (
            report.generator_file(run.workdir, stage.name),
            report.generator_file(run.workdir),
        ):
            store.save_generator(path, run.config.generator.to_dict(), variables)
    run.checkpoints.save(step, state, stage.name, first)


def begin_stage(
    run: Run, recipe: steps.Recipe, index: int, first: int, resumed_at: int
) -> TrainState:
    """The state at the stage's first step, or at the checkpoint inside the stage."""
    config = run.config

    def fresh(given: Variables | None) -> TrainState:
        key = jax.random.fold_in(jax.random.key(config.seed), index)
        crop, small = config.data.crop, config.data.crop // config.generator.scale
        lr, hr = jnp.zeros((1, small, small, 3)), jnp.zeros((1, crop, crop, 3))
        variables = recipe.generator.init(key, lr) if given is None else given
        critic = None
        if config.stages[index].adversarial:
            critic = create_network(
                recipe.discriminator.init(key, hr), recipe.optimizer
            )
        generator = create_network(variables, recipe.optimizer)
        return TrainState(jnp.int32(first), generator, critic, variables)

    abstract = parallel.abstract(jax.eval_shape(fresh, None), run.mesh)
    if resumed_at > first:
        return run.checkpoints.restore(resumed_at, abstract)
    variables = None
    if first:  # the averaged generator of the stage before, as its file has it
        variables = run.checkpoints.restore_generator(first, abstract.ema)
    elif config.init_from is not None:
        _, variables = store.load_generator(config.init_from)
    return parallel.replicate(fresh(variables), run.mesh)


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
        border=data.border,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )


def record(
    run: Run, stage: ConfigDict, step: int, metrics: steps.Metrics, clock: Clock
) -> None:
    """Logs the metrics of a step.

    Raises:
      TrainingError: one of them is NaN or infinite.
    """
    values = {name: float(value) for name, value in jax.device_get(metrics).items()}
    wrong = [name for name, value in values.items() if not math.isfinite(value)]
    if wrong:
        saved = run.checkpoints.latest_step()
        good = f"the checkpoint of step {saved}" if saved else "none was saved yet"
        raise TrainingError(
            f"step {step} of stage {stage.name}: {', '.join(wrong)} is not finite; "
            f"last good checkpoint in {run.workdir}: {good}"
        )
    rate = clock.tick()
    if rate is not None:
        values["images_per_second"] = rate
    if step % run.config.log_every == 0:
        run.log.scalars(step, stage.name, values)
    run.log.show(step, stage.name, values)
