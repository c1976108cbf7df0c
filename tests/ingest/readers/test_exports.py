"""Exports that the annotation tools wrote, and the pixels that the tools themselves draw of them.

`exports/` was made with Datumaro 1.13 and labelme 6.3; `exports/truth/` holds the numbers of the classes in
their own masks.
"""

import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from annotated import drawn, listing, marked
from PIL import Image

from defectline.components.ingest.readers import coco, cvat, labelme

EXPORTS = Path(__file__).parent / "exports"
DATUMARO = ("scratch", "dent")
LABELME = ("crack", "dent", "pore", "scratch")


@pytest.mark.parametrize(
    ("reader", "folder", "tool", "names", "expected"),
    [
        (
            coco,
            "datumaro_coco",
            "datumaro",
            DATUMARO,
            {"a": ("", "train"), "b": ("", "validation"), "c": ("OK", "test")},
        ),
        (
            cvat,
            "datumaro_cvat",
            "datumaro",
            DATUMARO,
            {"a": ("", "train"), "b": ("", "validation"), "c": ("OK", "test")},
        ),
        (labelme, "labelme", "labelme", LABELME, {"a": ("NG", "")}),
    ],
    ids=["COCO of Datumaro", "CVAT's XML of Datumaro", "labelme"],
)
def test_pixels_classes_and_splits_are_the_tools_own(
    reader: ModuleType, folder: str, tool: str, names: tuple[str, ...], expected: dict[str, tuple[str, str]]
):
    source = EXPORTS / folder
    assert reader.fits(listing(source))
    layout = reader.read(listing(source))
    assert not layout.rejected
    found = {Path(record.image.key).stem: record for record in layout.records}
    assert {name: (marked(record, source).label, record.split) for name, record in found.items()} == expected
    for name, record in found.items():
        truth = np.asarray(Image.open(EXPORTS / "truth" / f"{tool}_{name}.png"))
        said = marked(record, source)
        legend = ["", *json.loads(said.legend or "[]")]
        pixels = drawn(record, source, truth.shape)
        np.testing.assert_array_equal(np.array(["", *names])[truth], np.array(legend)[pixels])
