"""Every failed or changed run can be continued by some command.

The runs have one stage of 6 steps, with a checkpoint at every second step.
"""

import json
import os
import shutil
import signal
from types import SimpleNamespace

import jax
import numpy as np
import pytest
import tiny
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from srgan_jax.training import config as configuration
from srgan_jax.training import lock, loop, network_files, resume
from srgan_jax.training.checkpoint import CheckpointError
from srgan_jax.training.resolve import resolve_config
from srgan_jax.training.run import Run, TrainingError
from srgan_jax.weights import store

pytestmark = pytest.mark.usefixtures("compiled_once")


def tiny_config(folder, **fields):
    config = tiny.config(folder)
    config.stages = (config.stages[0],)
    config.stages[0].steps = 6
    config.evaluation.every = 3
    config.stages[0].update(fields)
    return config


def train(config, workdir, **options):
    """Trains as `train.py` does."""
    recorded = resume.recorded_config(workdir)
    resolved = resolve_config(config, recorded=recorded)
    return loop.train_and_evaluate(resolved, workdir, **options)


@pytest.fixture(scope="module")
def finished(folder, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("finished") / "run"
    state = train(tiny_config(folder), workdir)
    return workdir, jax.tree.map(np.asarray, state)


@pytest.fixture
def workdir(finished, tmp_path):
    """Returns a copy of a finished run."""
    shutil.copytree(finished[0], tmp_path / "run")
    return tmp_path / "run"


def assert_same(ours, expected):
    jax.tree.map(np.testing.assert_array_equal, ours, expected)


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_run_that_fails_before_its_first_checkpoint_begins_anew(
    folder, finished, tmp_path
):
    """A learning rate that is far too large makes the third step's metrics NaN."""
    wrong = tiny_config(folder, decay_at=(1,), decay_factor=1e33)
    wrong.checkpoint.every = 100
    with pytest.raises(TrainingError, match="no checkpoint was saved yet") as caught:
        train(wrong, tmp_path)
    assert "--config.stages.pretrain.learning_rate=0.0001" in str(caught.value)
    assert_same(train(tiny_config(folder), tmp_path), finished[1])
    assert not (tmp_path / "config.history.jsonl").exists()


def test_after_a_nan_a_lower_rate_continues_from_an_older_checkpoint(
    folder, tmp_path, capsys
):
    """The weights in the checkpoint of step 4 already cause the NaN."""
    wrong = tiny_config(folder, decay_at=(3,), decay_factor=1e33)
    with pytest.raises(TrainingError, match="that of step 4: continue from it") as e:
        train(wrong, tmp_path)
    assert "with --from_step (there are 2, 4)" in str(e.value)
    right = tiny_config(folder)
    with pytest.raises(configuration.ConfigError, match="--allow_config_change"):
        train(right, tmp_path)
    state = train(right, tmp_path, allow_config_change=True, from_step=2)
    assert state.step == 6
    history = lines(tmp_path / "config.history.jsonl")
    fields = ["stages.pretrain.decay_at", "stages.pretrain.decay_factor"]
    assert [line["field"] for line in history] == fields
    assert [line["before"] for line in history] == [[3], 1e33]
    capsys.readouterr()
    train(right, tmp_path)
    assert f"changed its recipe: config.{fields[0]} was [3] until step 2" in (
        capsys.readouterr().err
    )


def test_from_step_goes_back_to_an_older_checkpoint(folder, finished, workdir):
    config = tiny_config(folder)
    with pytest.raises(CheckpointError, match=r"no checkpoint of step 3; it has 2, 4"):
        train(config, workdir, from_step=3)
    (workdir / "summary.json").write_text("{}")
    assert_same(train(config, workdir, from_step=2), finished[1])
    steps = [line["step"] for line in lines(workdir / "metrics.jsonl")]
    assert steps == [1, 2, 3, 3, 4, 5, 6, 6]
    assert json.loads((workdir / "summary.json").read_text())["steps"] == 6


def test_a_changed_evaluation_scores_a_finished_run_again(folder, workdir):
    config = tiny_config(folder)
    config.evaluation.protocol = "rgb"
    train(config, workdir)
    assert json.loads((workdir / "summary.json").read_text())["protocol"] == "rgb"


def test_a_missing_or_damaged_generator_is_restored(folder, workdir, capsys):
    path, other = (
        network_files.file_of(workdir, "generator", name) for name in (None, "pretrain")
    )
    _, expected = store.load_generator(path)
    path.unlink()
    os.truncate(other, 100)
    train(tiny_config(folder), workdir)
    said = capsys.readouterr().err
    for restored in (path, other):
        assert_same(store.load_generator(restored)[1], expected)
        assert f"{restored} was missing or damaged; restored from a checkpoint" in said


@pytest.mark.parametrize("name", ["report.html", "comparison.png"])
def test_a_deleted_picture_or_report_is_written_again(folder, workdir, name):
    (workdir / name).unlink()
    train(tiny_config(folder), workdir)
    assert (workdir / name).stat().st_size > 1000


def skip(workdir, image, said):
    log = SimpleNamespace(say=said.append)
    run = SimpleNamespace(workdir=workdir, log=log, writes=jax.process_index() == 0)
    Run.note_skipped(run, image, f"{image} is damaged")


def test_a_torn_list_of_skipped_images_is_begun_anew(tmp_path):
    path, said = tmp_path / "skipped.json", []
    for image in ("a.png", "b.png", "a.png"):
        skip(tmp_path, image, said)
    assert json.loads(path.read_text()) == ["a.png", "b.png"]
    assert len(said) == 2
    os.truncate(path, 5)
    skip(tmp_path, "b.png", said)
    assert json.loads(path.read_text()) == ["b.png"]


def test_every_process_names_the_images_that_it_skips(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    for _ in range(2):
        skip(tmp_path, "a.png", [])
    assert capsys.readouterr().err.count("skipped: a.png is damaged") == 1
    assert json.loads((tmp_path / "skipped-1.json").read_text()) == ["a.png"]


def test_the_table_shows_the_number_of_images(folder, workdir, capsys):
    train(tiny_config(folder), workdir)
    rows = [x for x in capsys.readouterr().out.splitlines() if "pretrain" in x]
    assert rows
    assert all(" 12 " in row for row in rows)


@pytest.fixture
def started_from_a_file(folder, finished, tmp_path):
    """Returns a configuration with init_from, whose file is deleted after the start."""
    origin = tmp_path / "g.safetensors"
    shutil.copy(network_files.file_of(finished[0], "generator"), origin)
    config = tiny_config(folder, only_from_scratch=False)
    config.init_from = str(origin)
    return config, origin


def test_resumed_and_finished_runs_do_not_need_the_file_of_init_from(
    started_from_a_file, tmp_path, monkeypatch
):
    config, origin = started_from_a_file
    original = loop.training_batches

    def terminated(run, step):
        for done, batch in enumerate(original(run, step), start=step):
            if done == 1:
                os.kill(os.getpid(), signal.SIGTERM)
            yield batch

    with monkeypatch.context() as patch:
        patch.setattr(loop, "training_batches", terminated)
        with pytest.raises(loop.Preempted):
            train(config, tmp_path / "run")
    origin.unlink()
    for _ in range(2):
        train(config, tmp_path / "run")
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert list(summary["scores"]) == ["bicubic", "start", "pretrain"]


def test_a_new_run_needs_the_file_of_init_from(started_from_a_file, tmp_path):
    config, origin = started_from_a_file
    origin.unlink()
    with pytest.raises(ValueError, match=r"g\.safetensors"):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_sigint_saves_and_the_handler_is_restored(folder, tmp_path, monkeypatch):
    original, before = loop.training_batches, signal.getsignal(signal.SIGINT)

    def interrupted(run, step):
        for done, batch in enumerate(original(run, step), start=step):
            if (
                done == 1
            ):  # This batch is fetched one step ahead, before step 1 is computed.
                os.kill(os.getpid(), signal.SIGINT)
                assert signal.getsignal(signal.SIGINT) == signal.SIG_DFL
            yield batch

    monkeypatch.setattr(loop, "training_batches", interrupted)
    with pytest.raises(loop.Preempted, match="stopped at step 1; run the same command"):
        train(tiny_config(folder), tmp_path)
    assert (tmp_path / "checkpoints" / "1").is_dir()
    assert signal.getsignal(signal.SIGINT) is before


def test_a_second_run_in_the_directory_is_refused_and_changes_nothing(folder, workdir):
    path = workdir / lock.NAME
    other = {"host": lock.socket.gethostname(), "pid": os.getppid()}
    path.write_text(json.dumps(other))
    before = {p: p.read_bytes() for p in workdir.rglob("*") if p.is_file()}
    with pytest.raises(lock.LockError, match=f"in use by process {os.getppid()}"):
        train(tiny_config(folder), workdir)
    assert before == {p: p.read_bytes() for p in workdir.rglob("*") if p.is_file()}


def files_of(workdir):
    return sorted(
        path.relative_to(workdir)
        for path in workdir.rglob("*")
        if path.is_file() and path.stat().st_size
    )


@pytest.mark.usefixtures("collect_garbage")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_a_truncated_file_is_restored_or_named(
    data, folder, finished, tmp_path_factory
):
    """A run with any file truncated resumes to the same end, or says why not."""
    workdir = tmp_path_factory.mktemp("torn") / "run"
    shutil.copytree(finished[0], workdir)
    path = workdir / data.draw(st.sampled_from(files_of(workdir)))
    os.truncate(path, data.draw(st.integers(0, path.stat().st_size - 1)))
    state, refused = None, ""
    try:
        state = train(tiny_config(folder), workdir)
    except ValueError as error:
        refused = str(error)
    if refused:
        assert str(workdir) in refused
        assert "\n" not in refused
        assert "move" in refused
        return
    assert_same(state, finished[1])
    assert json.loads((workdir / "summary.json").read_text())["steps"] == 6
    assert json.loads((workdir / "config.json").read_text())["seed"] == 0
    _, variables = store.load_generator(network_files.file_of(workdir, "generator"))
    assert_same(variables, finished[1].ema)
