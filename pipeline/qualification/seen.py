"""Pictures of a study that prove less than they seem to: which the model knows, or which come twice."""

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence

from defectline.components.common.errors import SettingsError, StoreError
from defectline.components.common.files import read_file
from defectline.components.common.images.reading import UnreadableImage, pixel_digest, read_image
from defectline.components.common.snapshot import read_pairs
from defectline.components.common.storage import Storage
from defectline.pipeline.catalog.lineage import USES
from defectline.pipeline.qualification.study import Picture

NAMED = 5
"""Pictures that a warning names."""


def digest(picture: Picture) -> str:
    """The same for copies of a picture, in another format too. Raises SettingsError for no file."""
    data = read_file(picture.path, "a picture")
    try:
        return pixel_digest(read_image(data, channels=3).pixels)
    except UnreadableImage:  # The endpoint will say so.
        return hashlib.sha256(data).hexdigest()


def given_twice(pictures: Sequence[Picture], digests: Sequence[str]) -> Iterator[str]:
    """A warning where pictures of a study are the same. Raises SettingsError where they are called both good
    and defective."""
    alike: dict[str, list[Picture]] = defaultdict(list)
    for picture, one in zip(pictures, digests, strict=True):
        alike[one].append(picture)
    several = [same for same in alike.values() if len(same) > 1]
    for same in several:
        if len({one.truth for one in same}) > 1:
            raise SettingsError(
                "The study calls one picture both OK and NG.",
                got=" and ".join(f"{one.path.name} of {one.part}: {one.truth}" for one in same[:2]),
                expected="one truth of a picture",
                fix="Correct the study's file.",
            )
    if several:
        which = "; ".join(" and ".join(one.path.name for one in same) for same in several[:NAMED])
        are = "picture is" if len(several) == 1 else "pictures are"
        yield (
            f"{len(several):,} {are} given more than once ({which}{_more(several)}), and counted each time: "
            "take a picture of its own each time that a part is laid down."
        )


def known_to_model(
    storage: Storage, snapshot: str, pictures: Sequence[Picture], digests: Sequence[str]
) -> Iterator[str]:
    """A warning for each way in which the model of a snapshot had to do with pictures of a study."""
    try:
        rows = read_pairs(storage, snapshot)
    except StoreError as error:
        yield f"Nobody can tell whether the model knows these pictures: {error.reason}"
        return
    splits = {row.pixel_sha256: row.split for row in rows if row.accepted}
    for split, use in USES.items():
        its = [one.path.name for one, key in zip(pictures, digests, strict=True) if splits.get(key) == split]
        if its:
            yield (
                f"The model was {use} {len(its):,} of these {len(pictures):,} pictures "
                f"({', '.join(its[:NAMED])}{_more(its)}): what it says of these proves little about others."
            )


def _more(found: Sequence[object]) -> str:
    return f" and {len(found) - NAMED:,} more" if len(found) > NAMED else ""
