"""Is a pair what it claims to be, and is it there twice?"""

import hashlib

import numpy as np
import pytest
from pictures import encode, mask, noise, turned
from PIL import Image

from defectline.components.common.snapshot import Pair
from defectline.components.ingest.checks import check_pair, reject_duplicates


def check(label: str, image: bytes, truth: bytes) -> Pair:
    return check_pair(Pair(f"{label}/1", label, "accepted", "i.png", "m.png"), image, truth).pair


def unmasked(legend: str = "", **class_map: str) -> Pair:
    pair = Pair("NG/1", "NG", "accepted", "i.png", legend=legend)
    return check_pair(pair, encode(noise(0)), None, class_map).pair


def test_a_defective_picture_may_have_no_mask():
    row = unmasked()
    assert (row.status, row.id, row.masked, row.kinds) == ("accepted", "NG/1", False, ("image",))
    assert (row.mask_bytes, row.mask_sha256, row.defect_px, row.areas) == (0, "", 0, "")
    assert unmasked('"dust"').accepted
    assert unmasked('["dust", "dent"]', dust="ignore").accepted
    row = unmasked('"dust"', dust="ignore")
    assert (row.status, row.reason) == (
        "rejected",
        "NG, but what it shows does not count, dust, and no mask says where that is.",
    )


def test_a_file_of_a_mask_that_is_empty_is_not_a_missing_one():
    assert check("NG", encode(noise(0)), b"").reason.startswith("Mask: The file is not a picture")
    assert check("NG", encode(noise(0)), encode(mask(False))).reason == "NG, but its mask is empty."


def test_of_two_same_pictures_the_one_with_a_mask_stays():
    with_mask = check("NG", encode(noise(0)), encode(mask(True)))._replace(id="NG/2")
    rows = {
        row.id: row for row in reject_duplicates([unmasked(), with_mask], {with_mask.pixel_sha256: "NG/1"})
    }
    assert (rows["NG/1"].reason, rows["NG/2"].status) == ("The same picture as NG/2.", "accepted")


def test_a_sound_pair_is_accepted_with_what_is_known_of_it():
    image, truth = encode(noise(0)), encode(mask(True))
    row = check("NG", image, truth)
    assert (row.status, row.reason, row.fix) == ("accepted", "", "")
    assert (row.width, row.height, row.defect_px) == (16, 16, 9)
    assert (row.image_bytes, row.mask_bytes) == (len(image), len(truth))
    assert row.image_sha256 == hashlib.sha256(image).hexdigest()
    assert row.mask_sha256 == hashlib.sha256(truth).hexdigest()
    assert check("OK", image, encode(mask(False))).status == "accepted"


GOOD, EMPTY, DEFECT = encode(noise(0)), encode(mask(False)), encode(mask(True))


@pytest.mark.parametrize(
    ("label", "image", "truth", "reason"),
    [
        pytest.param("OK", b"text", EMPTY, "Image: The file is not a picture", id="not-an-image"),
        pytest.param("OK", GOOD, b"text", "Mask: The file is not a picture", id="not-a-mask"),
        pytest.param("OK", GOOD[:-50], EMPTY, "Image: The picture is damaged. Got", id="truncated"),
        pytest.param("OK", GOOD, encode(mask(False, 17)), "mask 17×17, image 16×16", id="sizes"),
        pytest.param(
            "NG", GOOD, encode(noise(3)), "Mask: The mask holds neither two values", id="not-two-valued"
        ),
        pytest.param("NG", GOOD, EMPTY, "its mask is empty", id="ng-empty"),
        pytest.param("NG", GOOD, encode(255 - mask(True)), "marks 96% of the picture", id="inverted"),
        pytest.param("OK", GOOD, DEFECT, "its mask marks 9 px", id="ok-with-defect"),
        pytest.param(
            "OK",
            encode(noise(1), save_all=True, append_images=[Image.fromarray(noise(2))]),
            EMPTY,
            "more than one picture",
            id="animated",
        ),
        pytest.param("OK", encode(Image.new("1", (10_000, 5_001))), EMPTY, "too large", id="too-many-pixels"),
    ],
)
def test_a_bad_pair_is_rejected_with_reason_and_fix(label: str, image: bytes, truth: bytes, reason: str):
    row = check(label, image, truth)
    assert row.status == "rejected"
    assert reason in row.reason
    assert row.fix
    # A table's cell: one line, no address in memory, which would differ from run to run.
    assert "\n" not in row.reason
    assert " at 0x" not in row.reason


@pytest.mark.parametrize(
    "image",
    [
        pytest.param(encode((noise(0).astype(np.uint16) << 8) + 7), id="sixteen-bit"),
        pytest.param(encode(noise(0), "BMP"), id="bmp"),
        pytest.param(encode(np.repeat(noise(0)[..., None], 3, axis=2), "TIFF"), id="rgb-tiff"),
        pytest.param(encode(Image.fromarray(noise(0)).convert("RGBA")), id="alpha"),
        pytest.param(encode(Image.fromarray(noise(0)).convert("P")), id="palette"),
        pytest.param(encode(noise(0)[::-1, ::-1], exif=turned(3)), id="exif"),
    ],
)
def test_copies_in_other_formats_have_the_same_pixel_hash(image: bytes):
    row = check("OK", image, EMPTY)
    assert row.accepted
    assert row.pixel_sha256 == check("OK", GOOD, EMPTY).pixel_sha256
    assert row.image_sha256 != hashlib.sha256(GOOD).hexdigest()


def test_the_shape_is_part_of_the_pixel_hash():
    flat = encode(noise(0).reshape(8, 32))
    row = check("OK", flat, encode(np.zeros((8, 32), np.uint8)))
    assert row.pixel_sha256 != check("OK", GOOD, EMPTY).pixel_sha256


def same(id: str, pixels: str = "p", status: str = "accepted") -> Pair:
    return Pair(id, id[:2], status, pixel_sha256=pixels)


def kept(rows: list[Pair], earlier: dict[str, str]) -> list[str]:
    return [row.id for row in reject_duplicates(rows, earlier) if row.accepted]


def test_of_pictures_with_the_same_label_one_stays():
    rows = [same("OK/b"), same("OK/a"), same("OK/c"), same("OK/d", "other")]
    assert kept(rows, {}) == ["OK/a", "OK/d"]
    out = reject_duplicates(rows, {})
    assert out[0].reason == "The same picture as OK/a."
    assert out[0].fix


def test_the_one_that_was_accepted_before_stays():
    rows = [same("OK/a"), same("OK/b")]
    assert kept(rows, {"p": "OK/b"}) == ["OK/b"]
    assert kept(rows, {"p": "OK/gone"}) == ["OK/a"]


def test_with_different_labels_none_stays():
    rows = [same("OK/a"), same("NG/b"), same("NG/c"), same("NG/d", "other")]
    assert kept(rows, {"p": "OK/a"}) == ["NG/d"]
    reasons = {row.reason for row in reject_duplicates(rows, {}) if row.status == "rejected"}
    assert reasons == {"The same picture is both OK and NG: NG/b, NG/c, OK/a."}


def test_rejected_pairs_are_nobodys_duplicate():
    rows = [same("OK/a"), same("NG/b", status="rejected"), same("OK/c", "", "rejected")]
    assert reject_duplicates(rows, {}) == rows
