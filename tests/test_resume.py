"""Changes that a resumed run allows, refuses and records."""

import json

import pytest
import tiny

from srgan_jax.training import config as configuration
from srgan_jax.training import resume
from srgan_jax.training.resolve import resolve_config

FREE = {
    "evaluation.every": 7,
    "evaluation.protocol": "paper",
    "checkpoint.keep": 9,
    "log_every": 3,
    "data.source": "folder:elsewhere",
}
EXPLICIT = {
    "batch_size": 8,
    "ema_decay": 0.5,
    "adversarial.weight": 2e-3,
    "content.feature_scale": 1.0,
}
REFUSED = {"seed": 1, "dtype": "bfloat16", "data.flips": True, "optimizer.b1": 0.5}


def resolve(**fields):
    config = tiny.config("photographs")
    config.update_from_flattened_dict(fields)
    return resolve_config(config)


def resolve_stage(**fields):
    config = tiny.config("photographs")
    config.stages[1].update(fields)
    return resolve_config(config)


@pytest.fixture
def workdir(tmp_path):
    """Returns the directory of a run that has saved step 2."""
    config = resolve()
    resume.write_config(tmp_path, config, [], 2)
    described = tmp_path / "checkpoints/2/stage"
    described.mkdir(parents=True)
    (described / "metadata").write_text(json.dumps({"config": config.to_dict()}))
    return tmp_path


def find(workdir, config, allow=False, goes_back=False):
    return resume.find_changes(workdir, config, 2, allow=allow, goes_back=goes_back)


def test_the_same_configuration_has_no_changes(workdir):
    assert find(workdir, resolve()) == []


@pytest.mark.parametrize(("field", "value"), FREE.items())
def test_fields_that_do_not_affect_training_change_freely(workdir, field, value):
    (change,) = find(workdir, resolve(**{field: value}))
    assert (change.step, change.field, change.now) == (2, field, value)


def test_numbers_of_steps_change_freely(workdir):
    (change,) = find(workdir, resolve_stage(steps=99))
    assert change.field == "stages.adversarial.steps"


@pytest.mark.parametrize(("field", "value"), EXPLICIT.items())
def test_changes_of_the_recipe_need_the_flag(workdir, field, value):
    config = resolve(**{field: value})
    with pytest.raises(configuration.ConfigError) as caught:
        find(workdir, config)
    assert f"holds a run with config.{field}=" in str(caught.value)
    assert "from step 2 on with --allow_config_change" in str(caught.value)
    assert [change.field for change in find(workdir, config, allow=True)] == [field]


@pytest.mark.parametrize(
    "fields",
    [
        {"learning_rate": 1e-5},
        {"decay_at": (1,)},
        {"decay_factor": 0.5},
        {"tv_weight": 1e-8},
        {"content": "0.5 * mse"},
    ],
)
def test_changes_of_a_stage_s_rates_and_weights_need_the_flag(workdir, fields):
    config = resolve_stage(**fields)
    with pytest.raises(configuration.ConfigError, match="--allow_config_change"):
        find(workdir, config)
    assert len(find(workdir, config, allow=True)) == 1


@pytest.mark.parametrize(("field", "value"), REFUSED.items())
def test_other_changes_are_refused_with_advice(workdir, field, value):
    for allow in (False, True):
        with pytest.raises(configuration.ConfigError) as caught:
            find(workdir, resolve(**{field: value}), allow=allow)
        assert "choose another --workdir" in str(caught.value)
        assert "--config.init_from" in str(caught.value)
        assert "--allow_config_change" not in str(caught.value)


def test_other_terms_of_the_content_loss_are_refused(workdir):
    for content in ("vgg22", "mse + l1"):
        with pytest.raises(configuration.ConfigError, match=r"--config\.init_from"):
            find(workdir, resolve_stage(content=content), allow=True)


def test_a_run_without_a_checkpoint_begins_anew_with_any_configuration(tmp_path):
    resume.write_config(tmp_path, resolve(), [], 0)
    assert (
        resume.find_changes(tmp_path, resolve(seed=5), 0, allow=False, goes_back=False)
        == []
    )


def test_a_finished_generator_without_checkpoints_is_protected(tmp_path):
    resume.write_config(tmp_path, resolve(), [], 0)
    (tmp_path / "generator.safetensors").touch()
    with pytest.raises(configuration.ConfigError, match=r"config\.seed=0"):
        resume.find_changes(tmp_path, resolve(seed=5), 0, allow=False, goes_back=False)


@pytest.mark.parametrize("text", ["", "{", None])
def test_a_missing_config_json_is_restored_from_the_checkpoint(workdir, text):
    path = workdir / "config.json"
    path.unlink() if text is None else path.write_text(text)
    metadata = workdir / "checkpoints/2/stage/metadata"
    saved = json.loads(metadata.read_text())
    del saved["config"]["freeze_statistics"]  # as in a run of an older version
    metadata.write_text(json.dumps(saved))
    assert find(workdir, resolve()) == []
    with pytest.raises(configuration.ConfigError, match=r"config\.seed=0"):
        find(workdir, resolve(seed=1))


def test_a_damaged_config_json_without_a_copy_is_named(workdir):
    (workdir / "config.json").write_text("{")
    (workdir / "checkpoints/2/stage/metadata").write_text("{}")
    with pytest.raises(configuration.ConfigError) as caught:
        find(workdir, resolve())
    assert str(workdir / "config.json") in str(caught.value)
    assert "move it away" in str(caught.value)


def test_each_change_is_recorded_once_with_its_step(workdir):
    config = resolve(batch_size=8, log_every=5)
    changes = find(workdir, config, allow=True)
    for _ in range(
        2
    ):  # A run may be killed between writing the history and config.json.
        resume.write_config(workdir, config, changes, 2)
    assert resume.read_history(workdir) == changes
    assert find(workdir, config) == []
    (sentence,) = resume.describe_recipe_changes(changes)
    assert sentence == (
        "this run changed its recipe: config.batch_size was 4 until step 2, then 8"
    )


def test_scores_before_a_change_of_the_evaluation_are_not_compared(workdir):
    every = find(workdir, resolve(**{"evaluation.every": 7}))
    protocol = find(workdir, resolve(**{"evaluation.protocol": "paper"}))
    assert resume.evaluation_changed_at(every) == 0
    assert resume.evaluation_changed_at(protocol) == 2


def test_going_back_compares_with_the_checkpoint_and_forgets_later_changes(workdir):
    """The batch size changed at step 6, after the checkpoint of step 2."""
    larger = resolve(batch_size=8)
    change = resume.Change(6, "batch_size", 4, 8)
    resume.write_config(workdir, larger, [change], 6)
    assert resume.read_history(workdir) == [change]
    with pytest.raises(configuration.ConfigError, match="from step 2 on"):
        find(workdir, larger, goes_back=True)
    (earlier,) = find(workdir, larger, allow=True, goes_back=True)
    assert earlier.step == 2
    resume.write_config(workdir, larger, [earlier], 2)
    assert resume.read_history(workdir) == [earlier]
    assert find(workdir, resolve(), goes_back=True) == []
    resume.write_config(workdir, resolve(), [], 1)
    assert resume.read_history(workdir) == []
