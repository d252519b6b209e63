"""Configurations: presets, init_from, overrides and invalid values."""

import math

import jax
import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from ml_collections import ConfigDict

from configs import srgan, srresnet
from srgan_jax.models.vgg import VGG19
from srgan_jax.training import config as configuration
from srgan_jax.training import stages
from srgan_jax.training.presets import PRESETS
from srgan_jax.training.resolve import resolve_config
from srgan_jax.weights import store


def test_the_default_recipe_is_the_paper_s():
    config = resolve_config(srgan.get_config())
    pretrain, adversarial = config.stages
    assert (pretrain.steps, pretrain.learning_rate) == (1_000_000, 1e-4)
    assert (pretrain.content, pretrain.adversarial) == ("mse", False)
    assert adversarial.steps == 200_000
    assert adversarial.content == "vgg54"
    assert (config.batch_size, config.data.crop) == (16, 96)
    recipe = stages.make_recipe(config, adversarial, "caffe")
    (term,) = recipe.content
    assert (term.weight, term.vgg) == (1, VGG19((5, 4), "caffe"))
    assert recipe.adversarial_weight == 1e-3
    assert recipe.feature_scale == 1 / 12.75


def test_the_learning_rate_falls_to_a_tenth_within_the_second_stage():
    config = resolve_config(srgan.get_config())
    rate = stages.learning_rate(config, config.stages[1])
    assert rate(99_999) == pytest.approx(1e-4)
    assert rate(100_000) == pytest.approx(1e-5)


@given(
    scaling=st.sampled_from(["none", "linear"]),
    batch_size=st.integers(1, 8192),
    warmup_steps=st.integers(0, 300),
    t=st.integers(0, 1000),
)
@settings(deadline=None)
def test_scaling_and_warmup_multiply_the_learning_rate(
    scaling, batch_size, warmup_steps, t
):
    config = srgan.get_config()
    config.learning_rate_scaling, config.batch_size = scaling, batch_size
    config.warmup_steps = warmup_steps
    config.stages[1].decay_at = (500,)
    config = resolve_config(config)
    expected = 1e-4 if t < 500 else 1e-5
    expected *= batch_size / 16 if scaling == "linear" else 1
    if t < warmup_steps:
        expected *= (t + 1) / warmup_steps
    rate = stages.learning_rate(config, config.stages[1])(t)
    assert float(rate) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("variant", srgan.VARIANTS[:3])
def test_variants_differ_in_the_content_loss_of_the_second_stage(variant):
    assert srgan.get_config(variant).stages[1].content == variant


def test_srresnet_vgg22_has_the_total_variation():
    assert srresnet.get_config("vgg22").stages[0].tv_weight == 2e-8
    assert srresnet.get_config("mse").stages[0].tv_weight == 0


def test_an_unknown_variant_is_named():
    with pytest.raises(ValueError, match="'vgg99'; expected one of vgg54"):
        srgan.get_config("vgg99")


def test_explicit_overrides_take_precedence_over_a_preset():
    config = srgan.get_config()
    config.preset = "krasserm"
    config.generator.bn_epsilon = 0.5
    resolved = resolve_config(config, ["generator.bn_epsilon"])
    expected = PRESETS["krasserm"]["generator"]
    assert resolved.generator["prelu"] == expected["prelu"] == "per_channel"
    assert resolved.generator["bn_epsilon"] == 0.5
    config.preset = "keras"
    with pytest.raises(configuration.ConfigError, match="unknown preset 'keras'"):
        resolve_config(config)


def test_init_from_sets_the_generator_s_settings_and_refuses_conflicts(tmp_path):
    network = tiny.recipe().generator
    variables = tiny.initialise(network, 8)
    given = dict(srgan.get_config().generator.to_dict(), blocks=1, channels=4)
    store.save_generator(tmp_path / "g.safetensors", given, variables)
    config = srgan.get_config()
    config.init_from = str(tmp_path / "g.safetensors")
    resolved = resolve_config(config)
    assert resolved.generator["blocks"] == 1
    assert [stage.name for stage in resolved.stages] == ["adversarial"]
    config.generator.blocks = 8
    with pytest.raises(
        configuration.ConfigError, match=r"generator\.blocks=8 conflicts"
    ):
        resolve_config(config, ["generator.blocks"])


@pytest.fixture
def discriminator(tmp_path):
    network = tiny.recipe().discriminator
    given = dict(srgan.get_config().discriminator.to_dict(), channels=2, hidden=4)
    variables = tiny.initialise(network, tiny.CROP)
    store.save_discriminator(tmp_path / "d.safetensors", given, variables)
    return str(tmp_path / "d.safetensors")


def test_init_discriminator_from_sets_its_settings_and_refuses_conflicts(
    discriminator,
):
    config = srgan.get_config()
    config.init_discriminator_from, config.data.crop = discriminator, tiny.CROP
    assert resolve_config(config).discriminator["hidden"] == 4
    config.discriminator.hidden = 8
    with pytest.raises(
        configuration.ConfigError, match=r"discriminator\.hidden=8 conflicts"
    ):
        resolve_config(config, ["discriminator.hidden"])


def test_a_discriminator_for_another_crop_is_refused(discriminator):
    config = srgan.get_config()
    config.init_discriminator_from = discriminator
    with pytest.raises(configuration.ConfigError, match="is not for crops of 96x96"):
        resolve_config(config)


def test_a_discriminator_without_an_adversarial_stage_is_refused(discriminator):
    config = srresnet.get_config()
    config.init_discriminator_from, config.data.crop = discriminator, tiny.CROP
    with pytest.raises(configuration.ConfigError, match="no stage is adversarial"):
        resolve_config(config)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("dtype", "float16", "dtype is 'float16'"),
        ("batch_norm", "none", "batch_norm is 'none'"),
        ("content.reduction", "max", r"content\.reduction is 'max'"),
        ("adversarial.order", "random", r"adversarial\.order is 'random'"),
        ("data.crop", 98, r"data\.crop 98 is not a multiple"),
        ("evaluation.lpips", "resnet", r"evaluation\.lpips is 'resnet'"),
        ("evaluation.protocol", "standrd", r"evaluation\.protocol is 'standrd'"),
        ("evaluation.border", "zero", r"evaluation\.border is 'zero'"),
        ("evaluation.every", 0, r"evaluation\.every is 0"),
        ("log_every", 0, "log_every is 0"),
        ("ema_decay", 1.5, r"ema_decay is 1\.5"),
        ("data.exposure", -1.0, r"data\.exposure is -1\.0"),
        ("data.graded", 1.5, r"data\.graded is 1\.5"),
        ("parallel.transform", "xmap", r"parallel\.transform is 'xmap'"),
        ("seed", -1, "seed is -1"),
        ("accumulate", 0, "accumulate is 0"),
        ("learning_rate_scaling", "sqrt", "learning_rate_scaling is 'sqrt'"),
        ("warmup_steps", -1, "warmup_steps is -1"),
        ("generator.scale", 0, r"generator\.scale is 0"),
        ("adversarial.weight", math.nan, r"adversarial\.weight is nan"),
        ("optimizer.b1", 1.0, r"optimizer\.b1 is 1\.0"),
    ],
)
def test_invalid_values_are_refused(field, value, message):
    config = srgan.get_config()
    config.update_from_flattened_dict({field: value})
    with pytest.raises(configuration.ConfigError, match=message):
        resolve_config(config)


def test_accumulation_requires_the_order_generator_first():
    config = srgan.get_config()
    config.accumulate, config.adversarial.order = 2, "discriminator_first"
    with pytest.raises(configuration.ConfigError, match="use 'generator_first'"):
        resolve_config(config)


def test_frozen_statistics_require_a_trained_generator():
    config = srgan.get_config()
    config.freeze_statistics = True
    with pytest.raises(configuration.ConfigError, match="name a trained one with init"):
        resolve_config(config)
    config.init_from = "srresnet"
    resolved = resolve_config(config)
    assert stages.make_recipe(resolved, resolved.stages[0], "caffe").freeze_statistics


@pytest.mark.parametrize("stage", [0, 1])
@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("learning_rate", -1e-4, r"learning_rate is -0\.0001; expected 0 or more"),
        ("learning_rate", math.nan, "learning_rate is nan; expected a finite number"),
        ("decay_factor", math.inf, "decay_factor is inf"),
        ("decay_at", (-1,), r"decay_at is \(-1,\)"),
        ("steps", 0, "steps is 0; expected 1 or more"),
        ("name", "best", "name is 'best'"),
        ("name", "../a", r"name is '\.\./a'"),
        ("tv_weight", -1.0, r"tv_weight is -1\.0"),
    ],
)
def test_invalid_values_of_a_stage_are_refused(stage, field, value, message):
    config = srgan.get_config()
    config.stages[stage].update({field: value})
    with pytest.raises(configuration.ConfigError, match=message):
        resolve_config(config)


def test_unknown_missing_and_mistyped_fields_are_named():
    config = srgan.get_config()
    config.data.crops = 3
    with pytest.raises(
        configuration.ConfigError, match=r"data has no field crops; did you mean crop\?"
    ):
        resolve_config(config)
    config = srgan.get_config()
    del config.data.crop
    with pytest.raises(configuration.ConfigError, match="data lacks the field crop"):
        resolve_config(config)
    config = srgan.get_config().to_dict()
    config["batch_size"] = True
    with pytest.raises(
        configuration.ConfigError, match="batch_size is True; expected a whole number"
    ):
        resolve_config(ConfigDict(config))


@pytest.mark.parametrize(
    ("content", "terms"),
    [
        ("mse", {"mse": 1.0}),
        ("vgg54 + 0.05 * l1", {"vgg54": 1.0, "l1": 0.05}),
        (".5*vgg22+ 2 * mse +l1", {"vgg22": 0.5, "mse": 2.0, "l1": 1.0}),
        ("vgg54 + colour", {"vgg54": 1.0, "colour": 1.0}),
        ("mse + 10 * smooth + 4 * grid", {"mse": 1.0, "smooth": 10.0, "grid": 4.0}),
    ],
)
def test_a_content_loss_is_a_weighted_sum(content, terms):
    assert configuration.content_terms(content) == terms


@pytest.mark.parametrize(
    "content",
    [
        "vgg",
        "vgg5",
        ".5vgg22",
        "resnet",
        "vggxy",
        "",
        "vgg54 +",
        "l1 + l1",
        "-1 * l1",
        "nan * l1",
    ],
)
def test_an_unknown_content_loss_is_refused(content):
    config = srgan.get_config()
    config.stages[1].content = content
    with pytest.raises(configuration.ConfigError, match="or a weighted sum of these"):
        resolve_config(config)


@pytest.mark.parametrize("term", ["colour", "smooth"])
def test_a_loss_on_blocks_needs_a_whole_block(term):
    config = srgan.get_config()
    config.data.crop = 4
    config.stages[1].content = f"vgg54 + {term}"
    with pytest.raises(configuration.ConfigError, match=r"crop is 4.* larger crop"):
        resolve_config(config)


def test_a_layer_that_vgg19_does_not_have_is_refused():
    with pytest.raises(ValueError, match="no phi_1,3"):
        VGG19((1, 3)).init(jax.random.key(0), jax.numpy.zeros((1, 8, 8, 3)))
