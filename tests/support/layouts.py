"""The pictures of `parts` in every format: written here, or by the tool itself."""

import json
from base64 import b64encode
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from labelled import unpack, write_files
from numpy.typing import NDArray
from parts import CLASSES, HEIGHT, PARTS, WIDTH, Part, pixels
from pictures import encode
from pycocotools import mask as coco_mask

Files = dict[str, bytes | str]
SPLITS = {"train": "train", "val": "validation", "test": "test"}


def picture(part: Part) -> bytes:
    return encode(pixels(list(PARTS).index(part.name)))


def numbers(part: Part) -> NDArray[np.uint8]:
    """The mask of a part with the numbers of CLASSES, from 1."""
    values = np.zeros(pixels(0).shape[:2], np.uint8)
    for name, truth in part.truth.items():
        values[truth] = CLASSES.index(name) + 1
    return values


def white(part: Part) -> bytes:
    return encode((numbers(part) > 0).astype(np.uint8) * np.uint8(255))


def kind(part: Part) -> str:
    """The class of the whole picture."""
    return next(iter(part.truth)) if len(part.truth) == 1 else "combined" if part.truth else "good"


def csv() -> Files:
    rows = ["image,label,mask,class,split"]
    files: Files = {}
    for part in PARTS.values():
        files[f"pictures/{part.name}.png"] = picture(part)
        mask = f"masks/{part.name}.png" if part.boxes else ""
        if mask:
            files[mask] = encode(numbers(part))
        label = "NG" if part.boxes else "OK"
        rows.append(f"pictures/{part.name}.png,{label},{mask},{';'.join(CLASSES)},{part.split}")
    return {**files, "labels.csv": "\n".join(rows)}


def mvtec() -> Files:
    files: Files = {}
    for number, part in enumerate(PARTS.values()):
        folder = "train" if number < 3 else "test"
        files[f"{folder}/{kind(part)}/{number:03}.png"] = picture(part)
        if part.boxes:
            files[f"ground_truth/{kind(part)}/{number:03}_mask.png"] = white(part)
    return files


def mvtec_loco() -> Files:
    """As `mvtec`, with a mask for each defect; its value says which kind it is."""
    files: Files = {"defects_config.json": "[]"}
    for key, data in mvtec().items():
        if not key.startswith("ground_truth/"):
            files[key] = data
    for number, part in enumerate(PARTS.values()):
        for index, (_, left, top, right, bottom) in enumerate(part.boxes):
            one = np.zeros((HEIGHT, WIDTH), np.uint8)
            one[top:bottom, left:right] = 255 - index
            files[f"ground_truth/{kind(part)}/{number:03}/{index:03}.png"] = encode(one)
    return files


def visa() -> Files:
    rows = ["image,label,mask"]
    files: Files = {}
    for number, part in enumerate(PARTS.values()):
        folder = "Anomaly" if part.boxes else "Normal"
        files[key := f"Data/Images/{folder}/{number:03}.png"] = picture(part)
        mask = ""
        if part.boxes:
            files[mask := f"Data/Masks/Anomaly/{number:03}.png"] = encode(numbers(part))
        label = ",".join(part.truth) or "normal"
        rows.append(f'candle/{key},"{label}",{mask and f"candle/{mask}"}')
    return {**files, "image_anno.csv": "\n".join(rows)}


def kolektor() -> Files:
    files: Files = {}
    for number, part in enumerate(PARTS.values()):
        files[f"kos{number:02}/Part0.png"] = picture(part)
        files[f"kos{number:02}/Part0_label.bmp"] = encode(numbers(part), "BMP")
    return files


def kolektor_2() -> Files:
    files: Files = {}
    for number, part in enumerate(PARTS.values()):
        folder = "test" if part.split == "test" else "train"
        files[f"{folder}/{10000 + number}.png"] = picture(part)
        files[f"{folder}/{10000 + number}_GT.png"] = white(part)
    return files


def yolo_masks() -> Files:
    names = "".join(f"  {number}: {name}\n" for number, name in enumerate(("background", *CLASSES)))
    places = "".join(f"{split}: images/{split}\n" for split in SPLITS)
    files: Files = {"data.yaml": f"path: ../plates\n{places}masks_dir: masks\nnames:\n{names}"}
    for part in PARTS.values():
        files[f"images/{part.split}/{part.name}.png"] = picture(part)
        files[f"masks/{part.split}/{part.name}.png"] = encode(numbers(part))
    return files


def ring(left: int, top: int, right: int, bottom: int) -> list[int]:
    return [left, top, left, bottom, right, bottom, right, top]


def coco_file(parts: Iterable[Part]) -> dict[str, Any]:
    """Scratches as polygons, dents as run lengths."""
    images, annotations = [], []
    for number, part in enumerate(parts, start=1):
        images.append({"id": number, "file_name": f"{part.name}.png", "height": HEIGHT, "width": WIDTH})
        for name, *box in part.boxes:
            one: Any = [ring(*box)]
            if name == "dent":
                packed = coco_mask.encode(np.asfortranarray(part.truth[name].astype(np.uint8)))
                one = {"size": packed["size"], "counts": packed["counts"].decode()}
            common = {"id": len(annotations) + 1, "image_id": number, "iscrowd": 0}
            annotations.append(common | {"category_id": CLASSES.index(name) + 1, "segmentation": one})
    categories = [{"id": number, "name": name} for number, name in enumerate(CLASSES, start=1)]
    return {"images": images, "annotations": annotations, "categories": categories}


def coco() -> Files:
    files: Files = {f"images/{part.split}/{part.name}.png": picture(part) for part in PARTS.values()}
    for split in SPLITS:
        parts = (part for part in PARTS.values() if part.split == split)
        files[f"annotations/instances_{split}.json"] = json.dumps(coco_file(parts))
    return files


def roboflow() -> Files:
    folders = {"train": "train", "val": "valid", "test": "test"}
    files: Files = {f"{folders[part.split]}/{part.name}.png": picture(part) for part in PARTS.values()}
    for split, folder in folders.items():
        parts = (part for part in PARTS.values() if part.split == split)
        files[f"{folder}/_annotations.coco.json"] = json.dumps(coco_file(parts))
    return files


def labelme() -> Files:
    files: Files = {}
    for part in PARTS.values():
        files[f"{part.name}.png"] = picture(part)
        shapes = []
        for name, left, top, right, bottom in part.boxes:
            # labelme's boxes have their last row and column inside.
            points = [[left, top], [right - 1, bottom - 1]]
            one = {"label": name, "points": points, "shape_type": "rectangle", "flags": {}}
            if name == "dent":
                inside = encode(np.full((bottom - top, right - left), 255, np.uint8))
                one |= {"shape_type": "mask", "mask": b64encode(inside).decode()}
            shapes.append(one)
        said = {"version": "6.3.1", "flags": {}, "shapes": shapes, "imagePath": f"{part.name}.png"}
        files[f"{part.name}.json"] = json.dumps(
            said | {"imageData": None, "imageHeight": HEIGHT, "imageWidth": WIDTH}
        )
    return files


def cvat() -> Files:
    files: Files = {}
    images = []
    for number, part in enumerate(PARTS.values()):
        files[f"images/{part.split}/{part.name}.png"] = picture(part)
        shapes = []
        for name, left, top, right, bottom in part.boxes:
            window = f'left="{left}" top="{top}" width="{right - left}" height="{bottom - top}"'
            filled = f'rle="0, {(right - left) * (bottom - top)}" {window}'
            corners = f'xtl="{left}.00" ytl="{top}.00" xbr="{right}.00" ybr="{bottom}.00"'
            of_kind = f"mask {{}} {filled}" if name == "dent" else f"box {{}} {corners}"
            shapes.append(
                "<" + of_kind.format(f'label="{name}" source="manual" occluded="0"') + ' z_order="0"/>'
            )
        images.append(
            f'<image id="{number}" name="{part.name}.png" subset="{part.split.title()}" '
            f'width="{WIDTH}" height="{HEIGHT}">{"".join(shapes)}</image>'
        )
    text = f"<annotations><version>1.1</version><meta></meta>{''.join(images)}</annotations>"
    return {**files, "annotations.xml": text}


def label_studio_annotation(part: Part, number: int) -> dict[str, Any]:
    results = []
    for name, left, top, right, bottom in part.boxes:
        value: dict[str, Any] = {
            "x": left / WIDTH * 100,
            "y": top / HEIGHT * 100,
            "width": (right - left) / WIDTH * 100,
            "height": (bottom - top) / HEIGHT * 100,
            "rotation": 0,
        }
        control = "rectanglelabels"
        if name == "dent":
            values = np.repeat(part.truth[name].astype(np.uint8).ravel() * 255, 4)
            value, control = {"format": "rle", "rle": encode_brush(values)}, "brushlabels"
        pixels_of = {"original_width": WIDTH, "original_height": HEIGHT, "image_rotation": 0}
        tags = {"from_name": control, "to_name": "image", "type": control}
        results.append({**pixels_of, **tags, "id": f"{name}{number}", "value": value | {control: [name]}})
    return {"id": number, "was_cancelled": False, "ground_truth": False, "result": results} | {
        "created_at": "2026-11-28T12:23:49.810118Z"
    }


def label_studio() -> Files:
    tasks = []
    for number, part in enumerate(PARTS.values()):
        data = {"image": f"/data/upload/1/1a2b3c4d-{part.name}.png"}
        done = [label_studio_annotation(part, number)]
        tasks.append({"id": number, "annotations": done, "data": data, "predictions": []})
    files: Files = {f"images/{part.name}.png": picture(part) for part in PARTS.values()}
    return {**files, "project-1-at-2026.json": json.dumps(tasks)}


def label_studio_storage() -> Files:
    files: Files = {}
    for number, part in enumerate(PARTS.values()):
        files[f"parts/{part.name}.png"] = picture(part)
        task = {"id": number, "data": {"image": f"/data/local-files/?d=mnt/parts/{quote(part.name)}.png"}}
        files[f"labels/{number}"] = json.dumps(label_studio_annotation(part, number) | {"task": task})
    return files


def encode_brush(values: NDArray[np.uint8]) -> list[int]:
    """Run lengths as rle-pack writes them, each a run of one value."""
    ends = [*np.flatnonzero(np.diff(values)) + 1, len(values)]
    bits = f"{len(values):032b}{7:05b}" + "".join(f"{size - 1:04b}" for size in (3, 4, 8, 16))
    for start, end in zip([0, *ends], ends, strict=False):
        bits += f"111{end - start - 1:016b}{values[start]:08b}"
    bits += "0" * (-len(bits) % 8)
    return [int(bits[at : at + 8], 2) for at in range(0, len(bits), 8)]


def _writer(files: Callable[[], Files]) -> Callable[[Path], Path]:
    return lambda root: write_files(root, files())


def _unpacker(name: str) -> Callable[[Path], Path]:
    return lambda root: unpack(name, root)


LAYOUTS: dict[str, tuple[str, Callable[[Path], Path]]] = {
    "csv": ("csv", _writer(csv)),
    "mvtec": ("mvtec", _writer(mvtec)),
    "mvtec loco": ("mvtec", _writer(mvtec_loco)),
    "visa": ("visa", _writer(visa)),
    "kolektor": ("kolektor", _writer(kolektor)),
    "kolektor 2": ("kolektor", _writer(kolektor_2)),
    "voc": ("voc", _unpacker("voc")),
    "voc numbers": ("voc", _unpacker("voc_numbers")),
    "yolo": ("yolo", _unpacker("yolo")),
    "yolo masks": ("yolo_masks", _writer(yolo_masks)),
    "datumaro": ("datumaro", _unpacker("datumaro")),
    "coco": ("coco", _writer(coco)),
    "roboflow": ("coco", _writer(roboflow)),
    "labelme": ("labelme", _writer(labelme)),
    "cvat": ("cvat", _writer(cvat)),
    "label studio": ("labelstudio", _writer(label_studio)),
    "label studio storage": ("labelstudio", _writer(label_studio_storage)),
}
"""Example → what `layout=` calls its format, and what writes it into a folder."""


def part_of(stem: str) -> Part:
    """The part that a record shows."""
    name = stem.rpartition("/")[2]
    if name in PARTS:
        return PARTS[name]
    digits = stem.removeprefix("kos").partition("/")[0] if stem.startswith("kos") else name
    return list(PARTS.values())[int(digits) % 100]


def expected(format: str, part: Part) -> dict[str, NDArray[np.bool_]]:
    """Where each class is, as the format can say it."""
    marked = numbers(part) > 0
    if not part.boxes or format not in ("mvtec", "visa", "kolektor"):
        return part.truth
    return {"defect" if format == "kolektor" else kind(part): marked}
