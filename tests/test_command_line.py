"""Arguments of train.py: names of fields and stages, and saved configurations."""

import json

import pytest
import tiny
from ml_collections import ConfigDict

from srgan_jax.training import command_line, saved_config
from srgan_jax.training import config as configuration
from srgan_jax.training.resolve import resolve_config

CONFIG = "--config=configs/srgan.py"

# ml_collections uses a deprecated function to load a configuration file.
pytestmark = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")


@pytest.fixture
def saved(tmp_path):
    """Returns the config.json of a run, in a folder whose name has a space."""
    folder = tmp_path / "a run"
    folder.mkdir()
    path = folder / "config.json"
    path.write_text(resolve_config(tiny.config("photographs")).to_json())
    return path


def normalise(*arguments):
    return command_line.normalise(["train.py", *arguments])[1:]


@pytest.mark.parametrize(
    ("given", "normal"),
    [
        ("stages.adversarial.steps=100", "stages[1].steps=100"),
        ("stages.pretrain.decay_at=(1, 2)", "stages[0].decay_at=(1, 2)"),
        ("stages[1].steps=100", "stages[1].steps=100"),
        ("stages[-1].steps=100", "stages[1].steps=100"),
        ("data.crop=48", "data.crop=48"),
        ("data.source=folder:a=b", "data.source=folder:a=b"),
        ("data.flips", "data.flips"),
    ],
)
def test_a_stage_can_be_given_by_name_or_number(given, normal):
    assert normalise(CONFIG, f"--config.{given}") == [CONFIG, f"--config.{normal}"]


def test_the_configuration_may_be_a_separate_argument():
    field = "--config.batch_size=8"
    assert normalise("--config", "configs/srgan.py", field) == [CONFIG, field]


def test_other_arguments_are_unchanged():
    others = ["--workdir=runs/a", "--nodistributed", "--noconfig.data.flips"]
    assert normalise(CONFIG, *others) == [CONFIG, *others]


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("batch_sise=2", r"no field config\.batch_sise; did you mean batch_size\?"),
        ("data.crops=2", r"did you mean data\.crop\?"),
        ("data.crop.x=2", r"no field config\.data\.crop\.x"),
        ("stages.adversaral.steps=2", r"did you mean adversarial\?"),
        ("stages.adversarial.stepz=2", r"did you mean stages\[1\]\.steps\?"),
        ("stages[2].steps=2", r"there are stages\[0\] \(pretrain\), stages\[1\]"),
        ("stages[-3].steps=2", r"there are stages\[0\] \(pretrain\)"),
    ],
)
def test_an_unknown_field_is_refused_with_the_nearest_name(field, message):
    with pytest.raises(ValueError, match=message):
        normalise(CONFIG, f"--config.{field}")


def test_a_missing_configuration_is_named():
    with pytest.raises(ValueError, match=r"no configuration file configs/nothing\.py"):
        normalise("--config=configs/nothing.py")


def test_the_config_json_of_a_run_is_a_configuration(saved):
    field = "--config.stages.adversarial.steps=9"
    config, field = normalise(f"--config={saved}", field)
    assert config == f"--config={saved_config.__file__}:{saved}"
    assert field == "--config.stages[1].steps=9"
    loaded = saved_config.get_config(str(saved))
    assert isinstance(loaded.stages[1], ConfigDict)
    loaded.stages[1].decay_at = (1,)
    loaded.init_from = "a name"  # this field is null in the JSON
    loaded.init_from = None
    loaded.stages[1].decay_at = (2,)
    assert resolve_config(loaded).to_json() == saved.read_text()


@pytest.mark.parametrize("text", ["", "{", "[]", "{}"])
def test_a_json_file_that_is_not_a_configuration_is_named(tmp_path, text):
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(OSError, match=r"config\.json is not the config\.json of a run"):
        saved_config.get_config(str(path))


def test_a_saved_configuration_of_version_0_1_gets_newer_fields(saved):
    values = json.loads(saved.read_text())
    for field in configuration.SINCE_VERSION_0_1:
        section, _, name = field.rpartition(".")
        del (values[section] if section else values)[name]
    saved.write_text(json.dumps(values))
    loaded = saved_config.get_config(str(saved))
    assert loaded.data.exposure == 0
    resolve_config(loaded)
