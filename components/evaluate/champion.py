"""The champion, asked for the same test pictures as the challenger."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from defectline.components.common.bundle import Bundle, bundle_roi, read_bundle
from defectline.components.common.classes import describe_supervision
from defectline.components.common.errors import BundleError, StoreError
from defectline.components.common.images.reading import UnreadableImage
from defectline.components.common.inference.inspection import Network
from defectline.components.common.layout import model_folder
from defectline.components.common.legend import Names
from defectline.components.common.snapshot import Pair, read_pairs
from defectline.components.common.steps import say
from defectline.components.common.storage import Storage
from defectline.components.evaluate.calibration import OperatingPoint
from defectline.components.evaluate.scoring import Scored, score

LEAST_UNSEEN = 5
"""Pictures of each label that the champion must not have been trained on, where it has seen some."""


class ChampionResult(NamedTuple):
    scored: Scored | None
    """Of the pictures that both can be compared on, at the champion's own operating point; None where
    there are none."""
    note: str
    """Why there are none, or what is special about them."""
    same_classes: bool = True
    learned_from: str = ""
    """What the champion learned from, in words; "" where that is not known."""


def score_champion(
    storage: Storage, model_name: str, champion: str, pairs: Sequence[Pair], names: Names
) -> ChampionResult:
    """The version `champion`, "" for none, on the test `pairs` that it was not trained on.

    A champion that cannot be loaded or answers nothing compares with nothing: the absolute rules decide.
    """
    if not champion:
        return ChampionResult(None, "there is no champion yet")
    published = model_folder(model_name, champion)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary, champion)
        try:
            storage.download_folder(published, folder)
            bundle = read_bundle(folder, storage.url(published))
            network = Network(
                folder / bundle.network, bundle.imaging, classes=bundle.classes, roi=bundle_roi(folder)
            )
            unseen, note = _unseen(storage, bundle, pairs)
            if not unseen:
                return _incomparable(note)
            point = OperatingPoint(bundle.threshold, bundle.min_area_px)
            same = bundle.classes == names.classes
            if not same:
                other = (
                    f"the champion knows other classes ({', '.join(bundle.classes)}): compared by verdicts"
                )
                note = "; ".join(filter(None, (note, other)))
            scored = score(network, point, storage, unseen, names, "judging the champion")
            learned_from = describe_supervision(bundle.supervision, bundle.classes)
            return ChampionResult(scored, note, same, learned_from)
        except (BundleError, UnreadableImage) as error:
            # The copy that was looked at is gone by the time this is read.
            what = f"{error.reason}".replace(str(folder), storage.url(published))
            return _incomparable(
                f"the champion {champion} cannot be loaded: {what} The absolute rules decide"
            )


def _incomparable(note: str) -> ChampionResult:
    say(f"evaluate: WARNING: nothing is compared: {note}")
    return ChampionResult(None, note)


def _unseen(storage: Storage, bundle: Bundle, pairs: Sequence[Pair]) -> tuple[Sequence[Pair], str]:
    """Those of `pairs` that the champion was neither trained nor calibrated on, and what to know of them."""
    try:
        rows = read_pairs(storage, bundle.data.snapshot)
    except StoreError:
        return pairs, (
            f"the champion's snapshot {bundle.data.snapshot} is gone, so it may have been trained on some of "
            "these pictures; then it looks better than it is"
        )
    seen = {p.pixel_sha256 for p in rows if p.accepted and p.split in ("train", "validation")}
    unseen = [p for p in pairs if p.pixel_sha256 not in seen]
    if len(unseen) == len(pairs):
        return pairs, ""
    note = (
        f"the champion was trained on {len(pairs) - len(unseen)} of {len(pairs)} test pictures, on which it "
        "looks better than it is"
    )
    if min(sum(p.label == label for p in unseen) for label in {p.label for p in pairs}) < LEAST_UNSEEN:
        return [], f"{note}; too few are left to compare on, so the absolute rules decide"
    return unseen, f"{note}: compared on the other {len(unseen)}"
