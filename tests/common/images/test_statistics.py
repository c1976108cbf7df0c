"""What the training pictures look like, as histograms that add up."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from defectline.components.common.images.statistics import (
    AREA_EDGES,
    BRIGHTNESS_EDGES,
    CONTRAST_EDGES,
    Histogram,
    ImageStats,
    Statistics,
    brightness_and_contrast,
    read_statistics,
)

LOOKS = st.lists(
    st.builds(
        ImageStats,
        brightness=st.floats(0, 255),
        contrast=st.floats(0, 127.5),
        area_px=st.one_of(st.just(0), st.integers(1, 50_000_000)),
        defective=st.booleans(),
    )
)


@settings(deadline=None)
@given(LOOKS, st.integers(0, 20), st.integers(0, 20))
def test_statistics_of_parts_add_up_to_those_of_the_whole(looks, one, two):
    first, second = sorted((one, two))
    parts = [looks[:first], looks[first:second], looks[second:]]
    total = sum(map(Statistics.of, parts), start=Statistics.of([]))
    assert total == Statistics.of(looks)
    assert sum(total.brightness.counts) == sum(total.contrast.counts) == total.pictures == len(looks)
    assert sum(total.area.counts) == sum(look.area_px > 0 for look in looks)


@pytest.mark.parametrize("edges", [BRIGHTNESS_EDGES, CONTRAST_EDGES, AREA_EDGES])
def test_a_bin_holds_its_lower_edge_but_not_its_upper(edges):
    for index in range(len(edges) - 1):
        below = np.nextafter(edges[index + 1], 0)
        found = Histogram.of([edges[index], below], edges).counts
        assert found[index] == 2


def test_light_is_mean_and_deviation_of_the_grey_levels():
    image = np.random.default_rng(0).integers(0, 256, (50, 40, 1), np.uint8)
    np.testing.assert_allclose(brightness_and_contrast(image), (image.mean(), image.std()))
    np.testing.assert_allclose(
        brightness_and_contrast(np.repeat(image, 3, axis=2)), (image.mean(), image.std())
    )
    extremes = np.array([[0, 255]], np.uint8)[..., None]
    assert brightness_and_contrast(extremes) == (127.5, 127.5)
    for picture in (extremes, np.full((3, 3, 1), 255, np.uint8)):
        assert (
            sum(Statistics.of([ImageStats(*brightness_and_contrast(picture), 0, False)]).contrast.counts) == 1
        )


def test_what_was_written_is_read(tmp_path):
    parts = [
        Statistics.of([ImageStats(10.0, 5.0, 40, True)]),
        Statistics.of([ImageStats(200.0, 50.0, 0, False)]),
    ]
    for number, part in enumerate(parts):
        (tmp_path / str(number)).mkdir()
        part.write(tmp_path / str(number))
    assert read_statistics([tmp_path / "0", tmp_path / "1"]) == parts[0] + parts[1]


def test_histograms_of_other_bins_are_refused():
    with pytest.raises(ValueError, match="different bins"):
        Histogram.of([], (0, 1)) + Histogram.of([], (0, 2))
    with pytest.raises(ValidationError, match="1 counts"):
        Histogram(edges=(0, 1), counts=(1, 2))
