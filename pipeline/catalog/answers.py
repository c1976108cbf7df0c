"""The chain from an answer of the endpoint: the version that it names, the line of the log, the picture."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from defectline.components.common import layout
from defectline.components.common.bundle import bundle_roi, read_description
from defectline.components.common.errors import SettingsError
from defectline.components.common.files import read_file
from defectline.components.common.images.unreadable import UnreadableImage
from defectline.components.common.prediction import Prediction
from defectline.components.common.storage import Storage
from defectline.components.common.trust.keys import Trusted
from defectline.pipeline.catalog.chain import Chain, Link, verify_version

SCORE, AREA, AREA_PX = 0.01, 0.02, 2
"""So far another processor's score may be from an answer's, and its area: in shares, or in pixels."""


def verify_answer(
    store: Storage,
    file: Path,
    trusted: Sequence[Trusted],
    log: Path | None,
    request: str,
    image: Path | None,
) -> Chain:
    """The links of an answer, and those of the version that it names.

    `log` are the endpoint's lines on standard output, `request` the X-Request-ID of the answer; without it,
    the answer's own id. `image` is the picture, which the version judges again. Raises SettingsError for a
    file that is no answer, and where no model of the store has its version.
    """
    found, id_ = _read(file)
    name = _model(store, found.model_version)
    links = []
    if log:
        links.append(_logged(log, request or id_, found))
    if image:
        links.append(_again(store, name, found, image))
    if not links:
        says = "only its version is proved: --log or --image prove the verdict"
        links.append(Link(found.model_version, "answer", "not there", says))
    chain = verify_version(store, name, found.model_version, trusted)
    # What answers was deployed.
    served = [
        link._replace(state="broken") if (link.name, link.state) == ("deployment", "not there") else link
        for link in chain.links
    ]
    return chain._replace(links=[*links, *served])


def _read(file: Path) -> tuple[Prediction, str]:
    """The one prediction of an answer in V1's form, or of a line of `inspect --json`; and its id."""
    data = read_file(file, "an answer of the endpoint as JSON")
    try:
        content = json.loads(data)
        predictions = (
            content["predictions"] if "predictions" in content else [content.get("prediction", content)]
        )
        (found,) = predictions
        return Prediction.model_validate(found), str(content.get("id", ""))
    except (ValueError, TypeError, KeyError, AttributeError, ValidationError):
        raise SettingsError(
            f"{file} is not an answer.",
            got=f"{len(data):,} bytes that cannot be read as one",
            expected="the JSON that the endpoint answered for one picture, or a line of `inspect --json`",
            fix="Name another file.",
        ) from None


def _model(store: Storage, version: str) -> str:
    for one in store.list(layout.MODELS):
        found = layout.parse_version(one.key)
        if found and found[1] == version:
            return found[0]
    raise SettingsError(
        f"No model of the store has the version {version}.",
        got="an answer of another store's model, or of one that was removed",
        expected="a version that `defectline models` lists",
        fix="Correct --store.",
    )


def _logged(log: Path, request: str, found: Prediction) -> Link:
    version = found.model_version
    for line in read_file(log, "the endpoint's log").decode(errors="replace").splitlines():
        entry = _entry(line)
        if not request or entry.get("request_id") != request:
            continue
        said = (entry.get("model_version"), entry.get("verdicts"))
        if said == (version, [found.verdict]):
            return Link(version, "answer", "proved", f"the log has request {request}: {found.verdict}")
        return Link(version, "answer", "broken", f"the log says {said[1]} by {said[0]} of request {request}")
    if not request:
        return Link(version, "answer", "broken", "its request id is not known: --request names it")
    return Link(version, "answer", "broken", f"the log has no line about request {request}")


def _entry(line: str) -> Mapping[str, Any]:
    try:
        entry = json.loads(line)
    except ValueError:
        return {}
    return entry if isinstance(entry, dict) and entry.get("event") == "request" else {}


def _again(store: Storage, name: str, found: Prediction, image: Path) -> Link:
    # Slow to import.
    from defectline.components.common.inference.inspection import judge, to_prediction
    from defectline.components.common.inference.network import Network

    version, data = found.model_version, read_file(image, "a picture")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        store.download_folder(layout.model_folder(name, version), folder)
        bundle = read_description(folder)
        network = Network(
            folder / bundle.network,
            bundle.imaging,
            classes=bundle.classes,
            roi=bundle_roi(folder),
            first_look=bundle.first_look,
        )
        try:
            maps = network.maps(data)
        except UnreadableImage as error:
            raise SettingsError(
                f"{image} cannot be judged.", got=str(error), expected="the picture", fix="Name another file."
            ) from None
    again = to_prediction(judge(maps, bundle.threshold, bundle.min_area_px, bundle.ng_from), mask=False)
    area, tolerance = again["defect_area_px"], max(AREA_PX, AREA * found.defect_area_px)
    if (
        again["verdict"] == found.verdict
        and abs(again["score"] - found.score) <= SCORE
        and abs(area - found.defect_area_px) <= tolerance
    ):
        return Link(version, "picture", "proved", f"judged again it is {found.verdict}, {area:,} px")
    was = f"{found.verdict} with {found.score:.3f} and {found.defect_area_px:,} px"
    says = f"judged again it is {again['verdict']} with {again['score']:.3f} and {area:,} px, not {was}"
    return Link(version, "picture", "broken", says)
