"""Examples with damaged images: the replacement, and the report."""

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from srgan_jax.data import examples, sampling
from srgan_jax.data.source import Source, SourceError
from srgan_jax.images.image import ImageError

CROP, SCALE, SEED = 16, 4, 3


class Tolerant(examples.DamagedImages):
    limit = 100


def source(count: int, damaged=()) -> Source:
    """A source whose image `i` has the value `i` everywhere, or cannot be decoded."""

    def load(index: int) -> np.ndarray:
        if index in damaged:
            raise ImageError(f"{index}: damaged")
        return np.full((CROP + 4 * index, CROP + 3, 3), index, np.uint8)

    sizes = np.array([(CROP + 4 * i, CROP + 3) for i in range(count)])
    labels = [str(i) for i in range(count)]
    return Source("memory", labels, sizes, np.zeros(count, bool), load)


def reader(images: Source, batch_size: int, tally) -> tuple:
    sampler = sampling.Sampler(
        images.sizes, batch_size=batch_size, crop=CROP, scale=SCALE, seed=SEED
    )
    settings = examples.Settings(
        *(CROP, SCALE, SEED, 0.0, 0.0, "mirrored", "bicubic"), cache_bytes=0
    )
    return sampler, examples.ExampleReader(images, sampler, settings, tally)


@hypothesis.settings(max_examples=60, deadline=None)
@hypothesis.given(st.data(), st.integers(1, 9), st.integers(1, 12))
def test_the_next_image_of_the_epoch_that_decodes_replaces_a_damaged_one(
    data, batch_size, count
):
    damaged = data.draw(st.sets(st.integers(0, count - 1), max_size=count - 1))
    step = data.draw(st.integers(0, 50))
    images = source(count, damaged)
    tally = Tolerant(images, skip=True)
    sampler, crops = reader(images, batch_size, tally)
    met = set()
    for row in sampler.examples(step).tolist():
        example = sampling.Example(*row)
        following = sampling.Order(count, batch_size, SEED).following(example.number)
        order = [example.image, *following.tolist()]
        place = next(k for k, image in enumerate(order) if image not in damaged)
        met |= {str(image) for image in order[:place]}
        assert (crops.read(example) == order[place]).all()
    reported = tally.take_unreported()
    assert sorted(name for name, _ in reported) == sorted(met)
    assert all(reason == f"{name}: damaged" for name, reason in reported)
    assert not tally.take_unreported()


@pytest.mark.parametrize(("count", "limit"), [(5, 1), (199, 1), (200, 2), (350, 3)])
def test_one_percent_of_the_images_but_at_least_one_may_be_damaged(count, limit):
    images = source(count)
    tally = examples.DamagedImages(images, skip=True)
    for index in range(limit):
        tally.add(index, ImageError(f"{index}: damaged"))
        tally.add(index, ImageError(f"{index}: damaged"))  # once more
    with pytest.raises(SourceError, match=f"{limit + 1} of {count} images of memory"):
        tally.add(limit, ImageError("damaged"))


def test_without_skipping_a_damaged_image_raises_an_error_that_says_what_to_do():
    images = source(5, damaged={0, 1, 2, 3, 4})
    sampler, crops = reader(images, 2, examples.DamagedImages(images, skip=False))
    example = sampling.Example(*sampler.examples(0)[0].tolist())
    with pytest.raises(ImageError, match=r"\d: damaged; restore .*on_damage=skip"):
        crops.read(example)


def test_a_source_with_only_damaged_images_is_refused():
    images = source(1, damaged={0})
    sampler, crops = reader(images, 2, examples.DamagedImages(images, skip=True))
    example = sampling.Example(*sampler.examples(0)[0].tolist())
    with pytest.raises(SourceError, match="no image of the source can be decoded"):
        crops.read(example)
