"""Makes the archives beside it with the tools themselves; the tests only read the archives.

Run with tests/support on PYTHONPATH, after `pip install datumaro==1.13.12 supervision==0.31.2`.
"""

import shutil
import zipfile
from pathlib import Path

import cv2
import numpy as np
import supervision
from datumaro.components.annotation import Mask, Polygon
from datumaro.components.dataset import Dataset
from datumaro.components.dataset_base import DatasetItem
from datumaro.components.media import Image
from parts import CLASSES, HEIGHT, PARTS, WIDTH, Part, pixels

HERE = Path(__file__).parent
BUILD = HERE / "build"


def masks(part: Part) -> list[Mask]:
    return [Mask(truth.astype(np.uint8), label=CLASSES.index(name)) for name, truth in part.truth.items()]


def mixed(part: Part) -> list[Mask | Polygon]:
    """Outlines of scratches, and masks of dents."""
    outlines = [
        Polygon([left, top, right, top, right, bottom, left, bottom], label=CLASSES.index(name))
        for name, left, top, right, bottom in part.boxes
        if name == "scratch"
    ]
    return outlines + [mask for mask in masks(part) if CLASSES[mask.label] == "dent"]


def export(name: str, format: str, annotations, **options) -> None:
    items = [
        DatasetItem(
            part.name,
            subset=part.split,
            media=Image.from_numpy(pixels(number)),
            annotations=annotations(part),
        )
        for number, part in enumerate(PARTS.values())
    ]
    dataset = Dataset.from_iterable(items, categories=list(CLASSES))
    dataset.export(str(BUILD / name), format, save_media=True, **options)


def export_yolo() -> None:
    for split, folder in (("train", "train"), ("val", "valid"), ("test", "test")):
        annotations = {}
        for number, part in enumerate(PARTS.values()):
            if part.split != split:
                continue
            path = BUILD / "pictures" / f"{part.name}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), pixels(number))
            drawn = np.array(list(part.truth.values()), bool).reshape(-1, HEIGHT, WIDTH)
            annotations[str(path)] = supervision.Detections(
                xyxy=supervision.mask_to_xyxy(drawn) if len(drawn) else np.zeros((0, 4)),
                mask=drawn,
                class_id=np.array([CLASSES.index(name) for name in part.truth], int),
            )
        dataset = supervision.DetectionDataset(list(CLASSES), list(annotations), annotations)
        root = BUILD / "yolo"
        dataset.as_yolo(str(root / folder / "images"), str(root / folder / "labels"), str(root / "data.yaml"))


shutil.rmtree(BUILD, ignore_errors=True)
export("voc", "voc_segmentation", masks)
export("voc_numbers", "voc_segmentation", masks, apply_colormap=False)
export("datumaro", "datumaro", mixed)
export_yolo()
for name in ("voc", "voc_numbers", "datumaro", "yolo"):
    with zipfile.ZipFile(HERE / f"{name}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted((BUILD / name).rglob("*")):
            if path.is_file() and "SegmentationObject" not in path.parts:
                archive.write(path, path.relative_to(BUILD / name).as_posix())
shutil.rmtree(BUILD)
