from pathlib import Path

import pytest
from labelled import listing, write_files

from defectline.components.common.errors import SourceError
from defectline.components.ingest.labels.records import find_labels
from defectline.components.ingest.roi import Regions
from defectline.components.ingest.settings import IngestSettings

FOUR = ["OK/1.png", "NG/2.png", "NG/3.png"]
CLASSES = ["good/1.png", "crack/2.png", "dent/3.png"]
CSV = {"labels.csv": "image,label\ncam/1.png,OK\ncam/2.png,NG\n", "cam/1.png": b"", "cam/2.png": b""}


def unmasked(root: Path, files: dict[str, bytes | str]) -> list[str]:
    labels = find_labels(listing(write_files(root, files)), IngestSettings(), Regions(None, {}))
    return [one.image.key for one in labels.layout.records if one.label == "NG" and not one.mask]


def empty(keys: list[str]) -> dict[str, bytes | str]:
    return dict.fromkeys(keys, b"")


@pytest.mark.parametrize(
    ("files", "found"),
    [
        (empty(FOUR), ["NG/2.png", "NG/3.png"]),
        (empty([*FOUR, "NG_MSK/2.png"]), ["NG/3.png"]),
        (empty([*FOUR, "elsewhere/5.png", "NG_MSK/readme.txt"]), ["NG/2.png", "NG/3.png"]),
        (empty(CLASSES), ["crack/2.png", "dent/3.png"]),
        (empty([*CLASSES, "marks/4.png"]), ["crack/2.png", "dent/3.png", "marks/4.png"]),
        (empty(["good/1.png", "mass/2.png"]), ["mass/2.png"]),
        (CSV, ["cam/2.png"]),
        (
            {
                "labels.csv": "image,label\nmask_line/1.png,OK\nmask_line/2.png,NG\n",
                **empty(["mask_line/1.png", "mask_line/2.png"]),
            },
            ["mask_line/2.png"],
        ),
    ],
)
def test_pictures_may_have_no_masks(tmp_path: Path, files: dict[str, bytes | str], found: list[str]):
    assert unmasked(tmp_path, files) == found


@pytest.mark.parametrize(
    ("files", "such_as"),
    [
        (empty([*FOUR, "OK_MSK/1.png"]), "OK_MSK/1.png"),
        (empty([*FOUR, "NG_MSK/5.png", "NG_MSK/6.png"]), "NG_MSK/5.png"),
        (empty([*FOUR, "NG_MKS/2.png"]), "NG_MKS/2.png"),
        (empty([*FOUR, "ngmsk/2.png"]), "ngmsk/2.png"),
        (empty([*CLASSES, "crack_maks/2.png"]), "crack_maks/2.png"),
        (empty([*CLASSES, "msaks/crack/2.png"]), "msaks/crack/2.png"),
        (empty([*CLASSES, "masks/x/2.png"]), "masks/x/2.png"),
        (CSV | {"masks/2.png": b""}, "masks/2.png"),
        (
            empty(["train/good/1.png", "test/crack/2.png", "groundtruth/crack/2.png"]),
            "groundtruth/crack/2.png",
        ),
    ],
)
def test_masks_that_are_not_found_are_not_left_out_silently(
    tmp_path: Path, files: dict[str, bytes | str], such_as: str
):
    with pytest.raises(SourceError, match="No NG picture has a mask") as caught:
        unmasked(tmp_path, files)
    assert caught.value.got.endswith(f"such as {such_as}")
