"""Exports that the annotation tools wrote, and the pixels that the tools themselves draw of them.

`exports/` was made with Datumaro 1.13, labelme 6.3 and a server of Label Studio 1.23; `exports/truth/` holds
the numbers of the classes in their own masks.
"""

import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from annotated import drawn, listing, marked
from PIL import Image

from defectline.components.ingest.readers import coco, cvat, label_studio, labelme

EXPORTS = Path(__file__).parent / "exports"
DATUMARO = ("scratch", "dent"), {"a": ("", "train"), "b": ("", "validation"), "c": ("OK", "test")}
LABELME = ("crack", "dent", "pore", "scratch"), {"a": ("NG", "")}
LABEL_STUDIO = (
    ("scratch", "dent"),
    {"c21dfd0e-a_b": ("", ""), "7b10fe20-b": ("NG", ""), "65fa93a3-c": ("OK", ""), "5d53502e-d": ("OK", "")},
)
"""The last was annotated twice: the star is at the annotation that found no defect."""
# The short export does not tell of stars.
SHORT = LABEL_STUDIO[0], LABEL_STUDIO[1] | {"5d53502e-d": ("", "")}


@pytest.mark.parametrize(
    ("reader", "folder", "truth", "said"),
    [
        (coco, "datumaro_coco", "datumaro_{}", DATUMARO),
        (cvat, "datumaro_cvat", "datumaro_{}", DATUMARO),
        (labelme, "labelme", "labelme_{}", LABELME),
        (label_studio, "label_studio", "label_studio_{}", LABEL_STUDIO),
        (label_studio, "label_studio_storage", "label_studio_{}", LABEL_STUDIO),
        (label_studio, "label_studio_min", "label_studio_{}", SHORT),
    ],
    ids=["COCO", "CVAT", "labelme", "Label Studio", "Label Studio's storage", "Label Studio's JSON_MIN"],
)
def test_pixels_classes_and_splits_are_the_tools_own(
    reader: ModuleType, folder: str, truth: str, said: tuple[tuple[str, ...], dict[str, tuple[str, str]]]
):
    source = EXPORTS / folder
    names, expected = said
    assert reader.fits(listing(source))
    layout = reader.read(listing(source))
    assert not layout.rejected
    found = {Path(record.image.key).stem: record for record in layout.records}
    assert {name: (marked(record, source).label, record.split) for name, record in found.items()} == expected
    for name, record in found.items():
        if record.label == "OK":
            assert record.mask is None
            continue
        numbers = np.asarray(Image.open(EXPORTS / "truth" / f"{truth.format(name.rpartition('-')[2])}.png"))
        legend = ["", *json.loads(marked(record, source).legend)]
        pixels = drawn(record, source, numbers.shape)
        np.testing.assert_array_equal(np.array(["", *names])[numbers], np.array(legend)[pixels])
