"""Whole runs of tiny networks, from configuration to report, also resumed."""

import json
import os
import re
import signal
from types import SimpleNamespace

import jax
import numpy as np
import pytest
import tiny
from ml_collections import ConfigDict

from srgan_jax.training import checkpoint, loop, network_files, parallel, report, stages
from srgan_jax.training import config as configuration
from srgan_jax.training.checkpoint import CheckpointError
from srgan_jax.training.resolve import resolve_config
from srgan_jax.training.run import Run, TrainingError
from srgan_jax.weights import files, store

pytestmark = pytest.mark.usefixtures("compiled_once")


@pytest.fixture(scope="module")
def uninterrupted(folder, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run")
    state = loop.train_and_evaluate(resolve_config(tiny.config(folder)), workdir)
    return workdir, to_host(state)


def generator_file(workdir, name=None):
    return network_files.file_of(workdir, "generator", name)


def to_host(state):
    return jax.tree.map(np.asarray, state)


def assert_same(ours, expected):
    ours, expected = to_host(ours), to_host(expected)
    jax.tree.map(np.testing.assert_array_equal, ours, expected)


class Interrupted(Exception):
    pass


def interrupt_after(monkeypatch, steps):
    """Interrupts the run when it asks for another batch after this many steps."""
    original = loop.training_batches

    def until(run, step):
        for done, batch in enumerate(original(run, step), start=step):
            if done == steps + 1:  # Batches are fetched one step ahead.
                raise Interrupted
            yield batch

    monkeypatch.setattr(loop, "training_batches", until)


def watch_batches(monkeypatch):
    """Returns a list that receives the first step of each sequence of batches."""
    original, asked = loop.training_batches, []

    def watched(run, step):
        asked.append(step)
        return original(run, step)

    monkeypatch.setattr(loop, "training_batches", watched)
    return asked


def test_a_run_writes_all_documented_files(uninterrupted):
    workdir, state = uninterrupted
    assert state.step == 6
    summary = json.loads((workdir / "summary.json").read_text())
    assert summary["protocol"] == "standard"
    assert summary["steps"] == 6
    assert summary["images_per_second"] > 0
    assert list(summary["scores"]) == ["bicubic", "pretrain", "adversarial"]
    assert set(summary["scores"]["adversarial"]) == {"psnr", "ssim"}
    names = {path.name for path in workdir.iterdir()}
    assert {"config.json", "checkpoints", "comparison.png", "metrics.jsonl"} <= names
    page = (workdir / "report.html").read_text()
    assert all(text in page for text in ("SRResNet", "D(HR)", "learning_rate", "jax"))
    assert any(name.startswith("events.out.tfevents") for name in names)
    lines = [
        json.loads(x) for x in (workdir / "metrics.jsonl").read_text().splitlines()
    ]
    losses = [line for line in lines if "content" in line]
    assert [line["step"] for line in losses] == [1, 2, 3, 4, 5, 6]
    assert [line["stage"] for line in losses] == ["pretrain"] * 3 + ["adversarial"] * 3
    expected = {"adversarial", "discriminator", "d_hr", "d_sr", "generator_gradient"}
    assert expected | {"discriminator_gradient"} <= set(losses[-1])
    assert [x["step"] for x in lines if "evaluation_psnr" in x] == [2, 3, 4, 6]


def test_each_stage_reports_its_compilation_time(folder, tmp_path, capsys):
    loop.train_and_evaluate(resolve_config(tiny.config(folder)), tmp_path)
    said = capsys.readouterr().err
    for stage in ("pretrain", "adversarial"):
        assert len(re.findall(rf"^{stage}: compiled in \d+\.\d s$", said, re.M)) == 1


def test_saved_generators_are_the_averaged_ones(uninterrupted):
    workdir, state = uninterrupted
    saved_settings, variables = store.load_generator(generator_file(workdir))
    assert saved_settings["blocks"] == 1
    assert_same(variables, state.ema)
    _, pretrained = store.load_generator(generator_file(workdir, "pretrain"))
    kernel = pretrained["params"]["conv_in"]["kernel"]
    assert np.abs(kernel - state.ema["params"]["conv_in"]["kernel"]).max() > 0


@pytest.mark.parametrize(
    ("steps", "saved"), [(1, [0, 3]), (2, [2, 3]), (3, [3]), (5, [4])]
)
def test_a_resumed_run_equals_an_uninterrupted_one(
    folder, uninterrupted, tmp_path, monkeypatch, steps, saved
):
    """Interrupts before a checkpoint, at one, between stages and in the second stage.

    `saved` lists the first step of each sequence of batches that the resumed run reads.
    It shows that the run did not begin anew, which would give the same bits.
    """
    config = resolve_config(tiny.config(folder))
    with monkeypatch.context() as patch:
        interrupt_after(patch, steps)
        with pytest.raises(Interrupted):
            loop.train_and_evaluate(config, tmp_path)
    asked = watch_batches(monkeypatch)
    state = loop.train_and_evaluate(config, tmp_path)
    assert asked == saved
    expected_workdir, expected = uninterrupted
    assert_same(state, expected)
    ours = json.loads((tmp_path / "summary.json").read_text())["scores"]
    theirs = json.loads((expected_workdir / "summary.json").read_text())["scores"]
    assert ours == theirs
    lines = [
        json.loads(x) for x in (tmp_path / "metrics.jsonl").read_text().splitlines()
    ]
    assert [x["step"] for x in lines if "content" in x] == [1, 2, 3, 4, 5, 6]


def test_a_finished_run_prints_its_table_again(
    folder, uninterrupted, capsys, monkeypatch
):
    workdir, expected = uninterrupted
    before = (workdir / "summary.json").stat().st_mtime_ns
    asked = watch_batches(monkeypatch)
    state = loop.train_and_evaluate(resolve_config(tiny.config(folder)), workdir)
    assert_same(state, expected)
    assert (workdir / "summary.json").stat().st_mtime_ns == before
    assert "bicubic" in capsys.readouterr().out
    assert asked == [6]  # No batch is read after it.


def test_sigterm_saves_at_once_and_the_run_resumes(
    folder, uninterrupted, tmp_path, monkeypatch
):
    config = resolve_config(tiny.config(folder))
    original = loop.training_batches

    def terminated(run, step):
        for done, batch in enumerate(original(run, step), start=step):
            if (
                done == 1
            ):  # This batch is fetched one step ahead, before step 1 is computed.
                os.kill(os.getpid(), signal.SIGTERM)
            yield batch

    with monkeypatch.context() as patch:
        patch.setattr(loop, "training_batches", terminated)
        with pytest.raises(loop.Preempted, match="stopped at step 1"):
            loop.train_and_evaluate(config, tmp_path)
    assert (tmp_path / "checkpoints" / "1").is_dir()
    assert_same(loop.train_and_evaluate(config, tmp_path), uninterrupted[1])


def test_a_finished_run_continues_with_more_steps(folder, tmp_path):
    config = tiny.config(folder)
    loop.train_and_evaluate(resolve_config(config), tmp_path)
    config.stages[1].steps = 4
    assert loop.train_and_evaluate(resolve_config(config), tmp_path).step == 7
    config.stages[0].steps = 4
    with pytest.raises(CheckpointError, match="restore the numbers of steps"):
        loop.train_and_evaluate(resolve_config(config), tmp_path)


def test_a_changed_configuration_is_refused_and_the_field_named(folder, uninterrupted):
    config = tiny.config(folder)
    config.adversarial.weight = 2e-3
    with pytest.raises(
        configuration.ConfigError, match=r"config\.adversarial\.weight=0\.001"
    ):
        loop.train_and_evaluate(resolve_config(config), uninterrupted[0])


def test_errors_in_the_last_stage_are_found_before_the_first(folder, tmp_path):
    for fields, message in [
        ({"discriminator.head": "pool"}, "head is 'pool'"),
        ({"data.source": "folder:/nowhere"}, "/nowhere"),
        ({"evaluation.source": "folder:/nowhere"}, "/nowhere"),
    ]:
        config = tiny.config(folder)
        config.update_from_flattened_dict(fields)
        with pytest.raises(ValueError, match=message):
            loop.train_and_evaluate(resolve_config(config), tmp_path / "run")
    config = tiny.config(folder)
    config.stages[1].content = "vgg55"
    config.content.weights = "vgg20"
    with pytest.raises(ValueError, match="vgg20"):
        loop.train_and_evaluate(resolve_config(config), tmp_path / "run")
    # Nothing was written that would stop the corrected command.
    assert not (tmp_path / "run").exists()


def test_fewer_steps_than_already_trained_are_refused(folder, uninterrupted):
    config = tiny.config(folder)
    config.stages[1].steps = 2
    with pytest.raises(CheckpointError, match="beyond the last step 5"):
        loop.train_and_evaluate(resolve_config(config), uninterrupted[0])


def test_changed_photographs_are_refused(tmp_path):
    folder = tiny.photographs(tmp_path / "photographs")
    config = tiny.config(folder)
    config.stages[1].steps = 1
    loop.train_and_evaluate(resolve_config(config), tmp_path / "run")
    (folder / "0.png").unlink()
    with pytest.raises(CheckpointError, match="photographs have changed"):
        loop.train_and_evaluate(resolve_config(config), tmp_path / "run")


def test_a_loss_that_is_not_finite_stops_the_run(folder, tmp_path):
    """A learning rate that is far too large at the third step causes the NaN."""
    config = tiny.config(folder)
    config.stages[0].update({"steps": 8, "decay_at": (2,), "decay_factor": 1e33})
    with pytest.raises(TrainingError) as caught:
        loop.train_and_evaluate(resolve_config(config), tmp_path)
    said = str(caught.value)
    assert said.startswith("step 4 of stage pretrain: content")
    assert f"the newest checkpoint in {tmp_path} is that of step 2" in said
    assert "stages.pretrain.learning_rate=0.0001 --allow_config_change" in said
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["2"]


def test_the_best_generator_of_the_last_stage_is_kept(uninterrupted):
    workdir, _ = uninterrupted
    path = generator_file(workdir, "best")
    lines = [
        json.loads(x) for x in (workdir / "metrics.jsonl").read_text().splitlines()
    ]
    scored = [x for x in lines if "evaluation_psnr" in x and x["step"] > 3]
    best = max(scored, key=lambda line: line["evaluation_psnr"])
    kept = files.metadata(path)
    assert (kept["step"], kept["stage"]) == (best["step"], "adversarial")
    assert kept["scores"]["evaluation_psnr"] == best["evaluation_psnr"]
    _, variables = store.load_generator(path)
    _, expected = checkpoint.load_generator(workdir, best["step"])
    assert_same(variables, expected)


@pytest.mark.parametrize(
    ("adversarial", "scores", "is_best"),
    [
        (True, {"evaluation_psnr": 20.0, "evaluation_lpips": 0.1}, True),
        (True, {"evaluation_psnr": 40.0, "evaluation_lpips": 0.3}, False),
        (True, {"evaluation_psnr": 40.0}, True),
        (False, {"evaluation_psnr": 20.0, "evaluation_lpips": 0.1}, False),
        (False, {"evaluation_psnr": 40.0, "evaluation_lpips": 0.3}, True),
    ],
)
def test_the_best_has_the_best_lpips_in_an_adversarial_stage_else_psnr(
    adversarial, scores, is_best
):
    before = [{"step": 1, "evaluation_psnr": 30.0, "evaluation_lpips": 0.2}]
    stage = ConfigDict({"adversarial": adversarial})
    assert report.is_best(stage, scores, []) is True
    assert report.is_best(stage, scores, before) is is_best


def test_another_run_can_start_from_the_discriminator_s_file(
    folder, uninterrupted, tmp_path
):
    workdir, state = uninterrupted
    path = workdir / "discriminator.safetensors"
    given, variables = store.load_discriminator(path)
    assert given["hidden"] == 4
    assert_same(variables, state.discriminator.variables)
    config = tiny.config(folder)
    config.init_from = str(generator_file(workdir))
    config.init_discriminator_from = str(path)
    resolved = resolve_config(config)
    (stage,) = stages.prepare_stages(resolved)
    network_files.copy_start(tmp_path, resolved)
    run = SimpleNamespace(
        config=resolved, workdir=tmp_path, mesh=parallel.create_mesh()
    )
    begun = Run.begin(run, stage, 0)
    assert_same(begun.discriminator.variables, state.discriminator.variables)
    assert_same(begun.generator.variables, state.ema)


def test_init_from_skips_stages_that_are_only_from_scratch(
    folder, uninterrupted, tmp_path
):
    config = tiny.config(folder)
    config.init_from = str(generator_file(uninterrupted[0], "pretrain"))
    config.stages[1].steps = 1
    loop.train_and_evaluate(resolve_config(config), tmp_path)
    scores = json.loads((tmp_path / "summary.json").read_text())["scores"]
    assert list(scores) == ["bicubic", "start", "adversarial"]
    before = json.loads((uninterrupted[0] / "summary.json").read_text())["scores"]
    assert scores["start"] == before["pretrain"]
