"""The catalog and the presets agree with the networks and the configuration."""

import dataclasses
import re

import pytest

from configs import srgan
from srgan_jax.models import registry
from srgan_jax.models.discriminator import Discriminator
from srgan_jax.models.generator import Generator
from srgan_jax.models.registry import EXECUTION, NETWORKS
from srgan_jax.training import stages
from srgan_jax.training.presets import PRESETS
from srgan_jax.training.resolve import resolve_config
from srgan_jax.weights import store
from srgan_jax.weights.catalog import CATALOG, Address, Package


@pytest.mark.parametrize("name", CATALOG)
def test_entries_are_pinned_and_complete(name: str) -> None:
    entry = CATALOG[name]
    assert entry.kind in (*NETWORKS, "lpips")
    assert re.fullmatch("[0-9a-f]{64}", entry.sha256)
    assert entry.size > 1_000_000
    assert entry.licence
    assert entry.summary
    if entry.is_included:
        assert entry.file == f"{name}.safetensors"
    for mirror in entry.mirrors:
        if isinstance(mirror, Package):
            assert re.fullmatch(r"[\w-]+==[\d.]+", mirror.requirement)
            assert re.fullmatch("[0-9a-f]{64}", mirror.sha256)
        else:
            assert isinstance(mirror, Address)
            assert mirror.url.startswith("https://")


INCLUDED = [n for n, e in CATALOG.items() if e.is_included]


def test_every_file_in_pretrained_is_in_the_catalog() -> None:
    files = {path.stem for path in store.PRETRAINED.glob("*.safetensors")}
    assert files == set(INCLUDED)


@pytest.mark.parametrize("name", INCLUDED)
def test_included_weights_match_the_catalog(name: str) -> None:
    path = store.fetch(name, offline=True)
    assert path.stat().st_size == CATALOG[name].size
    settings, _ = store.load_generator(name, offline=True)
    assert registry.create("generator", settings) == registry.create(
        "generator", CATALOG[name].settings
    )


def test_cached_names_are_distinct() -> None:
    files = [entry.file for entry in CATALOG.values()]
    assert len(set(files)) == len(files)


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("network", [Generator, Discriminator])
def test_presets_set_every_attribute(name: str, network: type) -> None:
    known = {field.name for field in dataclasses.fields(network)} - set(EXECUTION)
    assert set(PRESETS[name][network.__name__.lower()]) == known


@pytest.mark.parametrize("name", PRESETS)
def test_presets_fit_the_configuration(name: str) -> None:
    config = srgan.get_config()
    config.preset = name
    expanded = resolve_config(config)
    for section, fields in PRESETS[name].items():
        for field, value in fields.items():
            assert expanded.to_dict()[section][field] == value
    stages.make_recipe(expanded, expanded.stages[1], "caffe")
