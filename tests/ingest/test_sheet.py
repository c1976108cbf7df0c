"""What a quality engineer sees of the data: the quarantine table and the page of pictures."""

import base64
import csv
import io
import re
import shutil
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from pictures import CountingFolder, encode, mask, noise, turned, write_source
from PIL import Image
from playwright.sync_api import sync_playwright
from wrong_files import WRONG, write_wrong

from defectline.components.common.images.masks import decode_mask
from defectline.components.common.images.sample import generate_samples
from defectline.components.common.snapshot import read_files, read_head, read_pairs
from defectline.components.common.storage.folder import FolderStorage
from defectline.components.ingest.figures import COLOUR
from defectline.components.ingest.sheet import EXAMPLES, draw_sheet, spread
from defectline.components.ingest.step import ingest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def run(source: Path, store: FolderStorage, name: str = "now", **options: object) -> str:
    return ingest(str(source), str(store.root), name, settings={"max_rejected": 1.0, **options})


def page_of(store: FolderStorage, run: str = "now") -> str:
    return store.read(f"runs/{run}/pictures.html").decode()


def table_of(store: FolderStorage, run: str = "now") -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(store.read(f"runs/{run}/quarantine.csv").decode())))


def cards(page: str) -> dict[str, list[str]]:
    """Section → its cards."""
    sections = re.split(r"<h2>(.*?)</h2>", page)[1:]
    return {
        name: body.split('<div class="card">')[1:]
        for name, body in zip(sections[::2], sections[1::2], strict=True)
    }


def shown(card: str) -> list[np.ndarray]:
    data = re.findall(r'src="data:image/webp;base64,([^"]*)"', card)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(text))).convert("RGB")) for text in data]


def test_every_wrong_file_has_its_row_and_its_card(source: Path, store: FolderStorage):
    write_wrong(source)
    assert len(WRONG) == 20
    snapshot = run(source, store)
    table = {row["id"]: row for row in table_of(store)}
    assert len(table_of(store)) == len(table) == 20
    (section,) = (found for name, found in cards(page_of(store)).items() if name == "Rejected (20)")
    assert len(section) == 20
    for wrong in WRONG:
        row = table[wrong.id]
        assert wrong.reason in row["reason"], wrong.id
        assert row["status"] == "rejected"
        assert row["fix"]
        listed = f"{row['image']} {row['mask']} {row['reason']}"
        assert all(key in listed for key in wrong.files), wrong.id
        # Said of it on the page: file, reason and fix; and what can be decoded is shown.
        (card,) = (
            card
            for card in section
            if all(f"<code>{key}</code>" in card for key in (row["image"], row["mask"]) if key)
        )
        plain = re.sub(
            r"&#x27;", "'", re.sub(r"&lt;", "<", re.sub(r"&gt;", ">", re.sub(r"&quot;", '"', card)))
        )
        assert row["reason"] in plain
        assert row["fix"] in plain
        assert 'class="none"' in card or len(shown(card)) == 2
    pictures = Counter(len(shown(card)) for card in section)
    assert pictures[0] == 0
    rows = read_pairs(store, snapshot)
    assert Counter(row.status for row in rows) == {"accepted": 17, "rejected": 20}


def test_the_page_is_there_when_too_many_are_rejected(source: Path, store: FolderStorage):
    write_wrong(source)
    with pytest.raises(SystemExit):
        run(source, store, max_rejected=0.1)
    found = cards(page_of(store))
    assert len(found["Rejected (20)"]) == 20
    assert len(found["Accepted (17)"]) == 17
    assert "not split" in page_of(store)
    assert list(store.list("snapshots/head")) == []


def test_samples_are_spread_over_labels_and_splits(tmp_path: Path, store: FolderStorage):
    snapshot = run(write_source(tmp_path / "many", range(30)), store)
    rows = [row for row in read_pairs(store, snapshot) if row.accepted]
    chosen = spread(rows, 24, lambda row: (row.label, row.split))
    assert set(Counter((row.label, row.split) for row in chosen).values()) == {4}
    assert chosen == spread(reversed(rows), 24, lambda row: (row.label, row.split))
    (section,) = (found for name, found in cards(page_of(store)).items() if name.startswith("Accepted"))
    assert [re.search(r"<code>(.*?)</code>", card)[1] for card in section] == [row.id for row in chosen]
    for row, card in zip(chosen, section, strict=True):
        assert row.split in card
        (picture,) = shown(card)
        green = np.abs(picture.astype(int) - COLOUR).max(axis=2) < 60
        # Noise has some such pixels too, an outline many.
        assert (green.sum() > 100) == (row.label == "NG")


def test_a_snapshots_page_is_drawn_once(source: Path, store: FolderStorage):
    snapshot = run(source, store)
    key = f"snapshots/{snapshot}/pictures.html"
    assert store.read(key).decode() == page_of(store)
    version = store.read_versioned(key)
    rows = read_pairs(store, snapshot)
    pages = {draw_sheet(FolderStorage(source), some, f"snapshot {snapshot}") for some in (rows, rows[::-1])}
    assert len(pages) == 1
    run(source, store, "again", force=True)
    assert store.read_versioned(key) == version
    assert page_of(store, "again") == page_of(store)


def test_only_the_pictures_that_are_shown_are_read(tmp_path: Path, store: FolderStorage):
    source = write_source(tmp_path / "many", range(40))
    rows = read_pairs(store, run(source, store))
    counting = CountingFolder(source)
    draw_sheet(counting, rows, "few")
    # An example of synthetic defects may be among the samples.
    assert len(set(counting.keys_read)) <= len(counting.keys_read) == 48 + 2 * EXAMPLES


def test_pictures_that_have_gone_are_said_to_be_none(source: Path, store: FolderStorage):
    rows = read_pairs(store, run(source, store))
    shutil.rmtree(source / "OK")
    page = draw_sheet(FolderStorage(source), rows, "gone")
    assert page.count("no picture") == 8


def test_names_are_text(source: Path, store: FolderStorage):
    for folder, data in (("OK", encode(noise(99))), ("OK_MSK", encode(mask(True)))):
        (source / folder / '<b>&"x.png').write_bytes(data)
    run(source, store)
    assert "<b>&" not in page_of(store)
    assert "&lt;b&gt;&amp;&quot;x" in page_of(store)


# Accepted, but changed


def smoothed(source: Path, number: int) -> None:
    """Save a mask as an editor with soft brushes would."""
    truth = np.zeros((16, 16), np.uint8)
    truth[4:9, 4:9] = 255
    soft = cv2.GaussianBlur(truth, (3, 3), 0)
    (source / f"NG_MSK/{number:05d}_NG_Mask.png").write_bytes(encode(soft))


def test_a_smoothed_mask_is_noted_and_read_the_same_by_all(
    source: Path, store: FolderStorage, capsys: pytest.CaptureFixture[str]
):
    smoothed(source, 3)
    (source / "OK/00001_OK_Image.png").write_bytes(b"broken")
    snapshot = run(source, store)
    assert "1 pairs were changed to be used" in capsys.readouterr().out
    assert [(row["id"], row["status"]) for row in table_of(store)] == [
        ("OK/00001_OK", "rejected"),
        ("NG/00003_NG", "noted"),
    ]
    assert table_of(store)[1]["reason"].startswith("Smoothed: 40 px between black and white")
    pair = next(row for row in read_pairs(store, snapshot) if row.note)
    assert (pair.id, pair.status, pair.defect_px) == ("NG/00003_NG", "accepted", 25)
    ((_, _, data),) = read_files(store, [pair])
    assert data == (source / pair.mask_key).read_bytes()
    assert decode_mask(data).sum() == 25
    assert len(cards(page_of(store))["Changed to be used (1)"]) == 1
    # What is known of a file that did not change stays.
    assert next(row for row in read_pairs(store, run(source, store, force=True)) if row.note) == pair


def test_a_picture_that_exif_turns_and_its_mask_does_not_is_noted(source: Path, store: FolderStorage):
    image = source / "NG/00002_NG_Image.png"
    image.write_bytes(encode(noise(77), exif=turned(3)))
    run(source, store)
    (row,) = table_of(store)
    assert (row["id"], row["status"]) == ("NG/00002_NG", "noted")
    assert "the image by 3, the mask by 1" in row["reason"]
    (source / row["mask"]).write_bytes(encode(mask(True), exif=turned(3)))
    run(source, store)
    assert table_of(store) == []


# Regions of interest


def framed(source: Path, name: str = "roi.png") -> np.ndarray:
    """Give the pictures a region of interest: without their lower half and right quarter."""
    roi = np.zeros((16, 16), np.uint8)
    roi[:8, :12] = 255
    (source / name).parent.mkdir(exist_ok=True)
    (source / name).write_bytes(encode(roi))
    return roi


def test_what_lies_outside_of_the_region_is_dimmed(source: Path, store: FolderStorage, capsys):
    run(source, store)
    before = cards(page_of(store))["Accepted (16)"]
    assert "dimmed: outside" not in page_of(store)
    framed(source)
    outside = source / "NG_MSK/00003_NG_Mask.png"
    outside.write_bytes(encode(np.roll(mask(True), 8, axis=0)))
    run(source, store)
    assert "the same region of interest, which the endpoint will apply" in capsys.readouterr().out
    assert "dimmed: outside of the region of interest, in 15 pictures" in page_of(store)
    found = cards(page_of(store))
    for card in found["Accepted (15)"]:
        (id,) = re.findall(r"<code>(OK/.*?)</code>", card) or [None]
        if id:
            (was,), (now,) = shown(next(old for old in before if id in old)), shown(card)
            assert now[170:].mean() < 0.5 * was[170:].mean()
            assert abs(now[:150, :230].mean() - was[:150, :230].mean()) < 4
    # The mark that lies outside is why it is rejected.
    (card,) = found["Rejected (1)"]
    assert "marks nothing in its region of interest" in card
    lower = shown(card)[0][160:].astype(int)
    assert (np.abs(lower - COLOUR).max(axis=2) < 60).sum() > 100


def test_of_what_is_accepted_nothing_outside_of_the_region_is_outlined(source: Path, store: FolderStorage):
    roi = framed(source, "ROI/00003_NG_Image.png")
    truth = mask(True) | np.roll(mask(True), 8, axis=0)
    (source / "NG_MSK/00003_NG_Mask.png").write_bytes(encode(truth))
    snapshot = run(source, store)
    row = next(row for row in read_pairs(store, snapshot) if row.id == "NG/00003_NG")
    assert (row.status, row.defect_px) == ("accepted", 9)
    (card,) = (c for c in cards(page_of(store))["Accepted (16)"] if "NG/00003_NG" in c)
    green = np.abs(shown(card)[0].astype(int) - COLOUR).max(axis=2) < 60
    inside = cv2.resize(roi, green.shape[::-1], interpolation=cv2.INTER_NEAREST) > 0
    assert green[inside].sum() > 100
    assert green[~inside].sum() < 20


def test_regions_that_differ_are_said(source: Path, store: FolderStorage, capsys):
    framed(source, "ROI/00003_NG_Image.png")
    framed(source, "ROI/gone.png")
    run(source, store)
    said = capsys.readouterr().out
    assert "(1 in all; 15 pictures have none): the endpoint will apply none" in said
    assert "no picture has the name of 1 file in ROI/, such as ROI/gone.png" in said
    assert "ROI/gone.png" in page_of(store)


# Good pictures without masks


def test_good_pictures_may_have_no_mask(source: Path, store: FolderStorage):
    for path in sorted((source / "OK_MSK").iterdir())[:2]:
        path.unlink()
    run(source, store)
    assert [row["reason"] for row in table_of(store)] == ["No mask of that name."] * 2
    shutil.rmtree(source / "OK_MSK")
    snapshot = run(source, store, masks="ng_only")
    rows = read_pairs(store, snapshot)
    good = [row for row in rows if row.label == "OK"]
    assert Counter(row.status for row in rows) == {"accepted": 16}
    assert {(row.mask_key, row.mask_sha256, row.mask_bytes, row.defect_px) for row in good} == {
        ("", "", 0, 0)
    }
    for row, image, truth in read_files(store, rows):
        assert image == (source / row.image_key).read_bytes()
        assert truth == ((source / row.mask_key).read_bytes() if row.mask_key else b"")
    assert "no picture" not in page_of(store)
    assert run(source, store, masks="ng_only", force=True) == snapshot


def test_a_mask_that_is_there_is_checked(source: Path, store: FolderStorage):
    (source / "OK_MSK/00001_OK_Mask.png").write_bytes(encode(mask(True)))
    (source / "OK_MSK/00002_OK_Mask.png").unlink()
    (source / "NG_MSK/00003_NG_Mask.png").write_bytes(encode(mask(False)))
    run(source, store, masks="ng_only")
    assert {row["id"]: row["reason"] for row in table_of(store)} == {
        "OK/00001_OK": "OK, but its mask marks 9 px.",
        "NG/00003_NG": "NG, but its mask is empty.",
    }


# Defective pictures without masks


def test_of_a_defective_picture_without_a_mask_the_label_is_learned(
    source: Path, store: FolderStorage, capsys
):
    for number in (3, 5):
        (source / f"NG_MSK/0000{number}_NG_Mask.png").unlink()
    rows = {row.id: row for row in read_pairs(store, run(source, store))}
    assert {row.status for row in rows.values()} == {"accepted"}
    assert [id for id, row in rows.items() if not row.masked] == ["NG/00003_NG", "NG/00005_NG"]
    assert table_of(store) == []
    assert "▸ 2 NG pictures have no mask: their label alone is learned" in capsys.readouterr().out
    page = page_of(store)
    assert "<p>2 NG pictures have no mask: their label alone is learned.</p>" in page
    assert "<td>NG without a mask</td>" in page
    assert "16×16, no mask" in page
    # A mask that comes later makes another picture of it.
    (source / "NG_MSK/00003_NG_Mask.png").write_bytes(encode(mask(True)))
    later = {row.id: row for row in read_pairs(store, run(source, store))}
    assert [id for id, row in later.items() if not row.masked] == ["NG/00005_NG"]
    assert all(row.split == rows[id].split for id, row in later.items())


@pytest.mark.parametrize("layout", ["auto", "folders"])
def test_folders_alone_say_what_is_good(tmp_path: Path, store: FolderStorage, capsys, layout: str):
    for number in range(18):
        path = tmp_path / "source" / ("good", "crack", "dent")[number % 3] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(noise(number)))
    rows = read_pairs(store, run(tmp_path / "source", store, layout=layout))
    assert Counter((row.label, row.accepted, row.masked) for row in rows) == {
        ("NG", True, False): 12,
        ("OK", True, True): 6,
    }
    said = capsys.readouterr().out
    assert "none of the 12 NG pictures has a mask: their label alone is learned" in said
    assert layout != "auto" or "in the folders crack, dent, good, of which good means good" in said


def test_an_unknown_choice_of_masks_is_refused(source: Path, store: FolderStorage, capsys):
    with pytest.raises(SystemExit):
        run(source, store, masks="none")
    assert "The setting masks is wrong." in capsys.readouterr().out


def test_where_no_good_picture_has_a_mask_none_needs_one(source: Path, store: FolderStorage):
    shutil.rmtree(source / "OK_MSK")
    rows = read_pairs(store, run(source, store))
    assert Counter((row.label, row.status, bool(row.mask_key)) for row in rows) == {
        ("OK", "accepted", False): 8,
        ("NG", "accepted", True): 8,
    }


def test_a_missing_folder_of_masks_is_said_once(source: Path, store: FolderStorage, capsys):
    shutil.rmtree(source / "NG_MSK")
    with pytest.raises(SystemExit):
        run(source, store)
    said = capsys.readouterr().out
    assert "No NG picture has a mask." in said
    assert "8 NG pictures, and 8 files that seem to be masks, such as OK_MSK/00000_OK_Mask.png" in said
    assert read_head(store) is None


# On a screen


@pytest.mark.skipif(not CHROMIUM, reason="no chromium on this machine")
@pytest.mark.parametrize("width", [1200, 400])
def test_the_page_fits_the_screen(tmp_path: Path, store: FolderStorage, width: int):
    generate_samples(tmp_path / "source", pairs=40, size=96)
    write_wrong(tmp_path / "source")
    smooth = tmp_path / "source/NG_MSK/00003_NG_Mask.png"
    smooth.write_bytes(encode(cv2.GaussianBlur(np.asarray(Image.open(smooth).convert("L")), (3, 3), 0)))
    run(tmp_path / "source", store)
    assert "<script" not in page_of(store)
    assert "http" not in page_of(store)
    file = store.root / "runs/now/pictures.html"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": width, "height": 900})
        asked: list[str] = []
        tab.on("request", lambda request: asked.append(request.url))
        tab.goto(file.as_uri())
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        images = tab.evaluate("[...document.images].map(i => [i.complete, i.naturalWidth, i.clientWidth])")
        tab.screenshot(path=tmp_path / f"pictures-{width}.png", full_page=True)
        browser.close()
    assert len(images) > 40
    assert all(complete and natural > 0 and shown >= 90 for complete, natural, shown in images)
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
