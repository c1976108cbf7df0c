"""The bundle: everything that a line needs of one model, sealed by evaluate, the only thing deployed.

bundle.json                 what the classes below say
model.keras                 to train on from
openvino/model.xml, .bin    what the predictor loads, or
openvino_int8/              the same in INT8, where it loses nothing; `served` says which of the two
onnx/model.onnx  saved_model/1/
parity.json                 how far each file is from model.keras: see train/formats/parity.py
roi.png                     where the product is, if the source has one region of interest for all pictures
statistics.json             what the training pictures look like: see common/images/statistics.py
novelty.npz                 the same as the network's encoder sees it: see common/inference/novelty.py
golden/                     pictures as they were read, and the masks that must come back
config.yaml                 the settings of the run, if ingest left them: `defectline run --config` reads them
served.sig                  the signature of what the predictor reads, where the bundle is signed
SHA256SUMS
model.sig                   the signature of all of that: see common/trust/signatures.py
provenance.json             how it came to be: see evaluate/provenance.py
"""

import math
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from defectline.components.common.classes import DEFAULT_CLASSES, Supervision
from defectline.components.common.errors import BundleError, StoreError
from defectline.components.common.images.imaging import ImagingSettings
from defectline.components.common.images.roi import read_roi
from defectline.components.common.images.statistics import NAME as STATISTICS
from defectline.components.common.inference.inspection import Grades
from defectline.components.common.inference.novelty import NAME as NOVELTY
from defectline.components.common.storage import Storage, checksums

NAME = "bundle.json"
CROSS_FIT = "cross_fit"
"""A folder of a model that is not in its bundle: networks that judge what they have not learned."""
FOLDS = "folds.json"
"""In it: the ids of training pictures, and the number of the network that may judge each."""
NETWORKS = {"openvino": "openvino/model.xml", "openvino_int8": "openvino_int8/model.xml"}
"""The files of a model or bundle that can be served, in float32 and in INT8; each has its .bin beside it."""

SERVED_SIGNATURE = "served.sig"
ROI = "roi.png"
"""Black and white; outside of the white nothing is a defect."""
GPU_NETWORK = "onnx/model.onnx"
"""What ONNX Runtime loads, in float32."""


ROUNDING = 1e-9
"""Of 0.1 * 10, which is a little less than 1 as well."""
TOLD_FROM_NOISE = 0.05, 0.95
"""Thresholds are chosen between these: beyond, a little noise of the network decides."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="null")


class Golden(_Frozen):
    """A picture and the answer that every deployment of the bundle must give for it.

    Answers of other processors may differ a little: see `components/deploy/golden.py`.
    """

    file: str
    """Below golden/, the source's own bytes."""
    content_type: str
    """`image/png` and the like."""
    verdict: str
    score: float
    mask_file: str
    """Below golden/, 1-bit PNG, the size of the picture."""


class Data(_Frozen):
    """What the model was trained and judged on."""

    snapshot: str
    fingerprint: str
    pairs: dict[str, int]
    """How many per split: train, validation, test."""


Rate = Literal["escape", "overkill"]


def allowed_wrong(count: int, at_most: float) -> float:
    """How many of so many validation parts may be called wrong where the share `at_most` is promised of all
    parts; below 0 where the parts are too few to promise anything. The rule is that of `highest_ok`."""
    return at_most * (count + 1) - 1 + ROUNDING


class Promise(_Frozen):
    """The highest rate of wrong verdicts that is to be expected on parts like the validation pictures: the
    mean over all sets of so many of them."""

    rate: Rate
    of: str = ""
    """The class of defects that it is about; "" for all."""
    at_most: float
    """What the run asked for: max_escape or max_overkill."""
    pictures: int
    """Validation pictures of the label, or with the class: the rate among so many says something of all
    others."""
    parts: int | None = None
    """How many parts they show, of which each counts as one; None where each shows another."""
    level: float | None
    """A threshold up to it (escape) or from it on (overkill) holds the promise; None where the pictures are
    too few for any."""
    holds: bool
    """Whether the bundle's threshold, or the second one where it has two, does."""
    certain: float | None = None
    """The rate that is not exceeded with a probability of 95 %, whichever parts the validation pictures are;
    None where nothing can be promised."""
    noise: int | None = None
    """Of the pictures, those with a score that no threshold may call right, since a little noise of the
    network moves it as far; None in older bundles."""
    parts_per_day: int = 0
    """Parts that the line makes a day; 0 where nobody said."""

    def __str__(self) -> str:
        kind, called = {"escape": ("defective", "OK"), "overkill": ("good", "NG")}[self.rate]
        parts = f"parts with {self.of}" if self.of else f"{kind} parts"
        what = f"at most {100 * self.at_most:.3g} % of {parts} are called {called}"
        those = f"{self.pictures} {kind} validation pictures" + (f" with {self.of}" if self.of else "")
        those += f" of {self.parts} parts" if self.parts else ""
        if self.holds:
            if self.certain is not None:
                what += f", and with 95 % certainty at most {100 * self.certain:.3g} %"
            return f"Promised on average: {what}, judged by {those}{self._a_day(kind)}."
        if not self.pictures:
            return f"Not promised that {what}: no validation picture has it."
        if self.level is None:
            count = self.parts or self.pictures
            least = 100 / (count + 1)
            needed = math.ceil(1 / self.at_most - 1) if self.at_most else 0
            more = f"; {needed} or more are needed" if needed > count else ""
            return f"Not promised that {what}: with {those} no rate under {least:.2g} % can be{more}."
        low, high = TOLD_FROM_NOISE
        if not low <= self.level <= high:
            many = "too many" if self.noise is None else str(self.noise)
            may = math.floor(allowed_wrong(self.parts or self.pictures, self.at_most))
            more = {
                "escape": f"score below {low}, where noise decides: they escape at every threshold, "
                f"and {may} may. Bring more images of defects like those",
                "overkill": f"score above {high}, where noise decides: they are rejected at every threshold, "
                f"and {may} may be. Bring more good images like those",
            }[self.rate]
            return f"Not promised that {what}: of {those} {many} {more}."
        side = "up to" if self.rate == "escape" else "from"
        return f"Not promised that {what}: it would be with a threshold {side} {self.level:.3f}."

    def _a_day(self, kind: str) -> str:
        """In parts, of a line whose share of defective ones nobody stated."""
        if not self.parts_per_day:
            return ""
        if self.rate == "escape":
            most = _parts(self.at_most * self.parts_per_day / 100)
            return f"; were 1 % of {self.parts_per_day:,} parts a day {kind}, that is at most {most} a day"
        most = _parts(self.at_most * self.parts_per_day)
        return f"; of {self.parts_per_day:,} parts a day that is at most {most}"


def _parts(number: float) -> str:
    return f"{number:,.0f}" if number >= 10 else f"{number:.2g}"


class Bundle(_Frozen):
    """The content of bundle.json."""

    version: str
    """`v20261122-101530-3fa9c1`: time of sealing (UTC) and a digest of what was sealed."""
    name: str
    created: str
    imaging: ImagingSettings
    classes: tuple[str, ...] = DEFAULT_CLASSES
    """The kinds of defects that the network tells apart."""
    approval: Literal["", "none", "required", "two"] = ""
    """How many people must approve it before it serves; "" in older bundles, which ask nobody."""
    supervision: Supervision | Literal[""] = ""
    """What it learned from."""
    threshold: float = Field(ge=0, le=1)
    """OK ⇔ score < threshold."""
    ng_from: float | None = Field(default=None, ge=0, le=1)
    """NG ⇔ score ≥ ng_from, and LOOK lies between; None where there are two verdicts."""
    first_look: float | None = Field(default=None, ge=0, le=1)
    """Of a frame of many tiles those are judged in full that reach it at half resolution; None for all."""
    min_area_px: int = Field(ge=1)
    """Smaller regions are not defects; in pixels of the incoming picture."""
    calibration_note: str = ""
    """What to know where both had to be chosen on pictures of one label."""
    calibration_why: str = ""
    """Why the threshold lies where it does; "" where calibration_note says it, and in older bundles."""
    promises: tuple[Promise, ...] = ()
    """What can be promised at the threshold; empty in older bundles."""
    validation_scores: dict[Literal["OK", "NG"], tuple[float, ...]] = {}
    """Scores of validation pictures by their label, in rising order, evenly thinned where they are many."""
    grades: Grades | None = None
    """None where parts are not graded."""
    metrics: dict[str, dict[str, float | int | None]]
    """Per split; None where a rate has no image to be taken over."""
    data: Data
    training: dict[str, str | int | float | bool | None]
    golden: list[Golden]
    served: Literal["openvino", "openvino_int8"] = "openvino"
    """Which of NETWORKS was judged, and is what the predictor loads."""
    served_reason: str = "there is no other"
    reference: str = ""
    """The version that it was compared with: of those before it, the best on its test pictures."""

    @property
    def network(self) -> str:
        """The served network's file, below the bundle's folder."""
        return NETWORKS[self.served]

    @property
    def precision(self) -> str:
        return "INT8" if self.served == "openvino_int8" else "float32"


def read_bundle(folder: Path, origin: str = "") -> Bundle:
    """The sealed bundle in `folder`, checked against its checksums.

    Raises BundleError, which names `origin` where the folder was fetched from there.
    """
    checksums.verify(folder, origin)
    return read_description(folder, origin)


def read_description(folder: Path, origin: str = "") -> Bundle:
    """What bundle.json in `folder` says, whatever else is there. Raises BundleError, as `read_bundle`."""
    try:
        return Bundle.model_validate_json((folder / NAME).read_bytes())
    except (FileNotFoundError, ValidationError) as error:
        raise BundleError(
            f"{origin or folder} holds no readable {NAME}.",
            got=str(error).splitlines()[0],
            expected="a bundle of this version of defectline",
            fix="Run the pipeline again with --force, or install the version that made the bundle.",
        ) from error


def bundle_roi(folder: Path) -> NDArray[np.uint8] | None:
    """The region of interest of the bundle in `folder`, uint8 (H, W) of 0 and 1; None where there is none."""
    file = folder / ROI
    return read_roi(file.read_bytes()) if file.exists() else None


def seal_bundle(folder: Path, draft: Bundle) -> Bundle:
    """Give the bundle in `folder` its version, write bundle.json, and seal it."""
    now = datetime.now(UTC)
    # The draft takes part in the digest: other thresholds make another version.
    _write(folder, draft)
    content = checksums.seal(folder)
    bundle = draft.model_copy(
        update={
            "version": f"v{now:%Y%m%d-%H%M%S}-{content[:6]}",
            "created": now.isoformat(timespec="seconds"),
        }
    )
    _write(folder, bundle)
    checksums.seal(folder)
    return bundle


def _write(folder: Path, bundle: Bundle) -> None:
    (folder / NAME).write_text(bundle.model_dump_json(indent=2), encoding="utf-8")


def copy_served(bundle: Path, target: Path) -> None:
    """Copy what the predictor reads of a sealed bundle into the new folder `target`, and seal it.

    That is bundle.json, the served network's two files, the one for GPUs, roi.png where there is one and, but
    for older bundles, statistics.json and novelty.npz; and, where the bundle is signed, the signature of
    just these.
    """
    network = read_description(bundle).network
    names = [NAME, network, network.replace(".xml", ".bin"), GPU_NETWORK]
    names += [name for name in (STATISTICS, NOVELTY, ROI) if (bundle / name).exists()]
    for name in names:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(bundle / name, target / name)
    checksums.seal(target)
    if (bundle / SERVED_SIGNATURE).exists():
        shutil.copyfile(bundle / SERVED_SIGNATURE, target / checksums.SIGNATURE)


def publish_folder(folder: Path, store: Storage, prefix: str) -> None:
    """Upload the sealed `folder` below `prefix`.

    SHA256SUMS comes last, so a prefix that has it is complete; such a one is used as it is. Raises
    StoreError if it holds something else.
    """
    sums = (folder / checksums.NAME).read_bytes()
    there = store.read_versioned(f"{prefix}/{checksums.NAME}")
    if there is None:
        for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.name != checksums.NAME):
            store.upload(path, f"{prefix}/{path.relative_to(folder).as_posix()}")
        store.write(f"{prefix}/{checksums.NAME}", sums)
    elif there[0] != sums:
        raise StoreError(
            f"{store.url(prefix)} holds another model under this version.",
            got=f"a {checksums.NAME} that differs from the bundle's",
            expected="the bundle's own files, or none",
            fix="Find out who changed it; then remove that folder and deploy again.",
        )


def mask_iou(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two boolean arrays of one shape; 1.0 where both are empty."""
    union = np.count_nonzero(a | b)
    return np.count_nonzero(a & b) / union if union else 1.0
