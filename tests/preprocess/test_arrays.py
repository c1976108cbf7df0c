"""The files of the arrays."""

from pathlib import Path

import pytest

from defectline.components.common.errors import StoreError
from defectline.components.common.images.imaging import ImagingSettings
from defectline.components.preprocess.arrays import Arrays


def test_a_disk_that_is_too_small_is_named_before_the_work(tmp_path: Path):
    with pytest.raises(StoreError, match="does not fit") as caught:
        Arrays.new(tmp_path / "dataset", 10**12, ImagingSettings(image_size=2048))
    assert "MB free" in caught.value.got
    assert not list((tmp_path / "dataset").iterdir())
