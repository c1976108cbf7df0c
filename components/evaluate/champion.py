"""The champion and the reference, asked for the same test pictures as the challenger.

The reference is the best of those before the challenger. Each bundle names the one that it was compared with,
so it is found among two: the champion, and what the champion was compared with.
"""

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from defectline.components.common.bundle import Bundle, bundle_roi, read_bundle
from defectline.components.common.classes import describe_supervision
from defectline.components.common.errors import BundleError, StoreError
from defectline.components.common.images.reading import UnreadableImage
from defectline.components.common.inference.network import Network
from defectline.components.common.layout import model_folder
from defectline.components.common.legend import Names
from defectline.components.common.snapshot import Pair, read_pairs
from defectline.components.common.steps import say
from defectline.components.common.storage import Storage
from defectline.components.evaluate.gate import Opponent
from defectline.components.evaluate.metrics import cost_of_errors, summarize
from defectline.components.evaluate.scoring import Scored
from defectline.components.evaluate.settings import EvaluateSettings
from defectline.components.evaluate.validation.calibration import OperatingPoint

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
    version: str = ""
    fingerprint: str = ""
    """Of the pictures that it learned from."""
    made_with: str = ""
    """As of describe_settings."""
    reference: str = ""
    """The version that it was itself compared with; "" for none."""


class Judge(Protocol):
    """Asks a network for pictures of a snapshot."""

    def __call__(
        self, who: str, network: Network, point: OperatingPoint, pairs: Sequence[Pair], what: str
    ) -> Scored:
        """`who` is the version, `what` says in words what is done."""


def score_champion(
    storage: Storage, model_name: str, champion: str, pairs: Sequence[Pair], names: Names, judge: Judge
) -> ChampionResult:
    """The version `champion`, "" for none, on the test `pairs` that it was not trained on.

    A champion that cannot be loaded or answers nothing compares with nothing: the absolute rules decide.
    """
    return _score(storage, model_name, champion, pairs, names, judge, "the champion")


def score_reference(
    storage: Storage,
    model_name: str,
    champion: ChampionResult,
    pairs: Sequence[Pair],
    names: Names,
    judge: Judge,
) -> ChampionResult | None:
    """The same of what the champion was compared with; None where there is nothing to compare, or it is the
    champion itself."""
    if champion.scored is None or champion.reference in ("", champion.version):
        return None
    return _score(storage, model_name, champion.reference, pairs, names, judge, "the reference")


def find_reference(
    storage: Storage,
    model_name: str,
    champion: ChampionResult,
    pairs: Sequence[Pair],
    names: Names,
    settings: EvaluateSettings,
    judge: Judge,
) -> ChampionResult:
    """The champion, or what it was compared with where that does better on the test `pairs`: wrong verdicts
    cost less, or as much and outlines fit better. Only pictures that neither has learned from count."""
    older = score_reference(storage, model_name, champion, pairs, names, judge)
    if champion.scored is None or older is None or older.scored is None:
        return champion
    costs = settings.costs(names.classes)
    both = {c.id for c in champion.scored.counts} & {c.id for c in older.scored.counts}

    def merit(result: ChampionResult) -> tuple[float, float]:
        assert result.scored
        counts = [count for count in result.scored.counts if count.id in both]
        iou = summarize(counts, None)["iou"] if result.same_classes else None
        return -cost_of_errors(counts, costs), iou or 0.0

    return older if merit(older) > merit(champion) else champion


def describe_settings(bundle: Bundle) -> str:
    """The settings that a model was made with, all but the seed, for comparing."""
    training = {key: value for key, value in bundle.training.items() if key not in ("seed", "pretrained")}
    chosen = {
        "imaging": bundle.imaging.model_dump(mode="json"),
        "grades": bundle.grades and bundle.grades.model_dump(mode="json"),
        "training": training,
    }
    return json.dumps(chosen, sort_keys=True)


def choose_opponent(
    champion: ChampionResult, reference: ChampionResult, fingerprint: str, made_with: str, replace: str
) -> tuple[Opponent | None, str]:
    """What a challenger is compared with that learned from the pictures with this `fingerprint` and was
    `made_with` settings as `describe_settings` has them; and what to know of that.

    That is the champion where it must be better, else the reference. `replace` is as in EvaluateSettings.
    """
    same, alike = champion.fingerprint == fingerprint, champion.made_with == made_with
    against = champion if same and alike and replace == "better" else reference
    if against.scored is None:
        return None, against.note
    name = "the champion" if against is champion else f"{against.version}, the best before it"
    counts = against.scored.counts
    opponent = Opponent(counts, name, against.same_classes, same and alike, same and not alike)
    return opponent, against.note


def _score(
    storage: Storage,
    model_name: str,
    version: str,
    pairs: Sequence[Pair],
    names: Names,
    judge: Judge,
    called: str,
) -> ChampionResult:
    if not version:
        return ChampionResult(None, f"there was no {called.removeprefix('the ')}")
    published = model_folder(model_name, version)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary, version)
        try:
            storage.download_folder(published, folder)
            bundle = read_bundle(folder, storage.url(published))
            network = Network(
                folder / bundle.network,
                bundle.imaging,
                classes=bundle.classes,
                roi=bundle_roi(folder),
                first_look=bundle.first_look,
            )
            unseen, note = _unseen(storage, bundle, pairs, called)
            if not unseen:
                return _incomparable(note)
            point = OperatingPoint(bundle.threshold, bundle.min_area_px, bundle.ng_from)
            same = bundle.classes == names.classes
            if not same:
                other = f"{called} knows other classes ({', '.join(bundle.classes)}): compared by verdicts"
                note = "; ".join(filter(None, (note, other)))
            return ChampionResult(
                judge(version, network, point, unseen, f"judging {called}"),
                note,
                same,
                describe_supervision(bundle.supervision, bundle.classes),
                bundle.version,
                bundle.data.fingerprint,
                describe_settings(bundle),
                bundle.reference,
            )
        except (BundleError, UnreadableImage) as error:
            # The copy that was looked at is gone by the time this is read.
            what = error.reason.replace(str(folder), storage.url(published))
            return _incomparable(f"{called} {version} cannot be loaded: {what} The absolute rules decide")


def _incomparable(note: str) -> ChampionResult:
    say(f"evaluate: WARNING: nothing is compared: {note}")
    return ChampionResult(None, note)


def _unseen(
    storage: Storage, bundle: Bundle, pairs: Sequence[Pair], called: str
) -> tuple[Sequence[Pair], str]:
    """Those of `pairs` that it was neither trained nor calibrated on, and what to know of them."""
    try:
        rows = read_pairs(storage, bundle.data.snapshot)
    except StoreError:
        return pairs, (
            f"the snapshot {bundle.data.snapshot} of {called} is gone, so it may have been trained on "
            "some of these pictures; then it looks better than it is"
        )
    seen = {p.pixel_sha256 for p in rows if p.accepted and p.split in ("train", "validation")}
    unseen = [p for p in pairs if p.pixel_sha256 not in seen]
    if len(unseen) == len(pairs):
        return pairs, ""
    note = (
        f"{called} was trained on {len(pairs) - len(unseen)} of {len(pairs)} test pictures, on which it "
        "looks better than it is"
    )
    if min(sum(p.label == label for p in unseen) for label in {p.label for p in pairs}) < LEAST_UNSEEN:
        return [], f"{note}; too few are left to compare on, so the absolute rules decide"
    return unseen, f"{note}: compared on the other {len(unseen)}"
