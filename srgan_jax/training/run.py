"""The parts of the training loop: begin a stage, record, evaluate, save, restore."""

import dataclasses
import functools
import itertools
import json
import math
import sys
from collections.abc import Sequence

import jax
import numpy as np
from jax.experimental import multihost_utils

from srgan_jax import paths
from srgan_jax.data.pairs import Pair
from srgan_jax.data.source import Source
from srgan_jax.paths import AnyPath
from srgan_jax.training import network_files, parallel, report, runtime, steps
from srgan_jax.training.checkpoint import Checkpoints
from srgan_jax.training.config import Config
from srgan_jax.training.lock import Lock
from srgan_jax.training.profile import Profile
from srgan_jax.training.run_log import Clock, RunLog, finite
from srgan_jax.training.stages import Stage, initial_state
from srgan_jax.training.state import TrainState
from srgan_jax.weights.layout import WeightsError


class TrainingError(RuntimeError):
    """The run cannot continue; the message says why and what to do."""


@dataclasses.dataclass(frozen=True)
class Run:
    """A run in progress: everything that all its stages share.

    All methods are collective: every process must call them.

    Attributes:
      config: the configuration.
      workdir: the run's directory.
      profile: traces the chosen steps.
      mesh: mesh over all devices.
      source: the training images.
      pairs: LR and HR images of the evaluation.
      enlarged: bicubic upscalings of `pairs`.
      lock: the directory's lock, which process 0 alone holds.
      checkpoints: the run's checkpoints.
      log: the run's log.
      stop: says whether the run was told to stop.
      comparable_after: step of the last change of the evaluation; scores up to this
        step are not compared with later ones.
    """

    config: Config
    workdir: AnyPath
    profile: Profile
    mesh: jax.sharding.Mesh
    source: Source
    pairs: list[Pair]
    enlarged: list[np.ndarray]
    lock: Lock | None
    checkpoints: Checkpoints
    log: RunLog
    stop: runtime.StopRequest
    comparable_after: int

    @property
    def writes(self) -> bool:
        return jax.process_index() == 0

    def check(self) -> None:
        """Raises an error if a save failed, or if another run took the directory."""
        self.checkpoints.check()
        if self.lock is not None:
            self.lock.check()

    def begin(self, stage: Stage, resumed_at: int) -> TrainState:
        """Returns the state at the stage's start, or at a checkpoint inside it."""
        fresh = functools.partial(initial_state, self.config, stage)
        abstract = parallel.abstract(jax.eval_shape(fresh), self.mesh)
        if resumed_at > stage.first:
            return self.checkpoints.restore(resumed_at, abstract)
        load = functools.partial(network_files.load_start, self.workdir, self.config)
        generator = (
            self.checkpoints.restore_generator(stage.first, abstract.ema)
            if stage.first
            else load("generator")
        )
        discriminator = load("discriminator") if stage.config.adversarial else None
        return parallel.replicate(fresh(generator, discriminator), self.mesh)

    def record(
        self, stage: Stage, clock: Clock, step: int, metrics: steps.Metrics
    ) -> None:
        """Logs the metrics of a step.

        Raises:
          TrainingError: a metric is NaN or infinite.
        """
        values = {name: float(value) for name, value in jax.device_get(metrics).items()}
        wrong = [name for name, value in values.items() if not math.isfinite(value)]
        if wrong:
            self.checkpoints.wait()
            raise TrainingError(
                f"step {step} of stage {stage.name}: {', '.join(wrong)} is not finite; "
                + self._way_on(stage)
            )
        rate = clock.tick()
        if rate is not None:
            values["images_per_second"] = rate
        events = step % self.config.log_every == 0
        self.log.scalars(step, stage.name, values, events=events)
        self.log.show(step, stage.name, values)
        if events:
            self.log.upload(if_due=True)

    def note_skipped(self, image: str, reason: str) -> None:
        """Reports a damaged image once and lists it in skipped.json.

        Each process lists the images of its own share, process 1 in skipped-1.json.
        """
        index = jax.process_index()
        path = self.workdir / (f"skipped-{index}.json" if index else "skipped.json")
        try:
            names = json.loads(path.read_text())
        except (FileNotFoundError, ValueError):  # none yet, or torn: begun anew
            names = []
        if image in names:
            return
        with paths.replacing(path) as unfinished:
            unfinished.write_text(json.dumps([*names, image], indent=2) + "\n")
        text = f"skipped: {reason}; the next image of the epoch takes its place"
        if self.writes:
            self.log.say(text)
        else:
            print(text, file=sys.stderr, flush=True)

    def evaluates(self, stage: Stage, step: int) -> bool:
        """True if the generator is scored at this step."""
        return step == stage.end or step % self.config.evaluation.every == 0

    def evaluate(self, stage: Stage, step: int, state: TrainState) -> None:
        """Scores the generator if an evaluation is due and the log has no scores yet.

        The best generator of the stage so far is kept in `generator-best.safetensors`.
        """
        scored = stage.config
        if step == stage.first > 0:  # the end of the stage before
            scored = self.config.stages[stage.index - 1]
        elif not self.evaluates(stage, step):
            return
        if not self.writes or self.log.has_scores(step):
            return
        scores = report.evaluate(
            self.config, self.pairs, self.enlarged, state.ema, self.log, step
        )
        before = self.log.scores(scored.name, after=self.comparable_after)
        if report.is_best(scored, scores, before):
            network_files.save_generator(
                *(self.workdir, self.config, state.ema, network_files.BEST),
                stage=scored.name,
                step=step,
                scores=finite(scores),
            )
        self.log.scalars(step, scored.name, scores)

    def save(self, stage: Stage, step: int, state: TrainState) -> None:
        """Saves a checkpoint, and at the end of a stage also its networks' files.

        The log of the steps before is written first, since a run that is killed
        afterwards continues it.
        """
        self.log.upload()
        if step == stage.end and self.writes:
            self._save_networks(state, stage.name, None)
        self.checkpoints.save(step, state, stage.name, stage.first)

    def restore_files(self, stages: Sequence[Stage], state: TrainState) -> None:
        """Rewrites the generators whose files were moved, deleted or damaged.

        Args:
          stages: all stages; they are finished.
          state: the final state.
        """
        named = {stage.name: stage for stage in stages} | {None: stages[-1]}
        # As process 0 sees them: another may see a shared directory later, and to
        # restore is collective.
        missing = multihost_utils.broadcast_one_to_all(
            np.array([not self._has_generator(name) for name in named])
        )
        for name in itertools.compress(named, missing):
            path = network_files.file_of(self.workdir, "generator", name)
            stage = named[name]
            if stage is stages[-1]:
                generator = state.ema
            elif stage.end in self.checkpoints.all_steps():
                abstract = parallel.abstract(state.ema, self.mesh)
                generator = self.checkpoints.restore_generator(stage.end, abstract)
            else:
                self.log.say(
                    f"{path} is missing or damaged, and there is no checkpoint of step "
                    f"{stage.end} to restore it from: the table leaves it out"
                )
                continue
            if self.writes:
                network_files.save_generator(self.workdir, self.config, generator, name)
            self.log.say(f"{path} was missing or damaged; restored from a checkpoint")
        if self.config.init_from is not None and not self._has_generator(
            network_files.START
        ):
            try:
                if self.writes:
                    network_files.copy_start(self.workdir, self.config)
            except WeightsError as error:
                self.log.say(f"the table leaves the starting generator out: {error}")

    def _has_generator(self, name: str | None) -> bool:
        path = network_files.file_of(self.workdir, "generator", name)
        return network_files.is_readable("generator", path)

    def _save_networks(self, state: TrainState, *names: str | None) -> None:
        network_files.save_generator(self.workdir, self.config, state.ema, *names)
        if state.discriminator is not None:
            variables = state.discriminator.variables
            network_files.save_discriminator(self.workdir, self.config, variables)

    def _way_on(self, stage: Stage) -> str:
        """Says what to do after a loss that is not finite."""
        rate = f"--config.stages.{stage.name}.learning_rate"
        saved = self.checkpoints.all_steps()
        if not saved:
            return (
                "no checkpoint was saved yet: begin anew in the same --workdir with a "
                f"lower learning rate ({rate}={stage.config.learning_rate / 10:g})"
            )
        return (
            f"the newest checkpoint in {self.workdir} is that of step {saved[-1]}: "
            "continue from it with a lower learning rate "
            f"({rate}={stage.config.learning_rate / 10:g} --allow_config_change), or "
            "from an older one with --from_step (there are "
            f"{', '.join(map(str, saved))})"
        )
