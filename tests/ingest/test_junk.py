"""What of a source is not data."""

from collections import Counter

import pytest

from defectline.components.ingest.junk import count_ignored, describe, junk, sidecar

JUNK = {
    "NG/@eaDir/000.png/SYNOPHOTO_THUMB_M.jpg": ("NG/@eaDir/", "@eaDir/"),
    "@eaDir/": ("@eaDir/", "@eaDir/"),
    "NG/SYNOPHOTO_THUMB_XL.jpg": ("NG/SYNOPHOTO_THUMB_XL.jpg", "SYNOPHOTO_*"),
    "#recycle/OK/1.png": ("#recycle/", "#recycle/"),
    "#snapshot/GMT-1/OK/1.png": ("#snapshot/", "#snapshot/"),
    "OK/.@__thumb/s100000.png": ("OK/.@__thumb/", ".*/"),
    "@Recycle/OK/1.png": ("@Recycle/", "@Recycle/"),
    "$RECYCLE.BIN/S-1-5/1.png": ("$RECYCLE.BIN/", "$RECYCLE.BIN/"),
    "$Recycle.Bin/S-1-5/1.png": ("$Recycle.Bin/", "$RECYCLE.BIN/"),
    "System Volume Information/tracking.log": ("System Volume Information/", "System Volume Information/"),
    "lost+found/#123": ("lost+found/", "lost+found/"),
    "~snapshot/hourly.0/OK/1.png": ("~snapshot/", "~snapshot/"),
    ".snapshot/hourly.0/OK/1.png": (".snapshot/", ".*/"),
    "__MACOSX/OK/._1.png": ("__MACOSX/", "__MACOSX/"),
    ".Trashes/501/1.png": (".Trashes/", ".*/"),
    "OK/._1.png": ("OK/._1.png", "._*"),
    "OK/.DS_Store": ("OK/.DS_Store", ".DS_Store"),
    "OK/.1.png.Xs3aT9": ("OK/.1.png.Xs3aT9", ".*"),
    "OK/.ipynb_checkpoints/1-checkpoint.png": ("OK/.ipynb_checkpoints/", ".*/"),
    "OK/Icon\r": ("OK/Icon\r", "Icon"),
    "OK/Thumbs.db": ("OK/Thumbs.db", "Thumbs.db"),
    "OK/THUMBS.DB": ("OK/THUMBS.DB", "Thumbs.db"),
    "OK/ehthumbs.db": ("OK/ehthumbs.db", "ehthumbs.db"),
    "OK/Desktop.ini": ("OK/Desktop.ini", "desktop.ini"),
    "OK/1.png:Zone.Identifier": ("OK/1.png:Zone.Identifier", "*:Zone.Identifier"),
    "OK/sub_$folder$": ("OK/sub_$folder$", "*_$folder$"),
    "OK_$folder$": ("OK_$folder$", "*_$folder$"),
    "_SUCCESS": ("_SUCCESS", "_SUCCESS"),
    "OK/_temporary/0/1.png": ("OK/_temporary/", "_temporary/"),
    "OK/1.png.part": ("OK/1.png.part", "*.part"),
    "OK/1.png.crdownload": ("OK/1.png.crdownload", "*.crdownload"),
    "OK/1.png~": ("OK/1.png~", "*~"),
    "OK/~$notes.docx": ("OK/~$notes.docx", "~$*"),
    "Plates Previews.lrdata/1/2.lrprev": ("Plates Previews.lrdata/", "*.lrdata/"),
    "Plates.lrcat": ("Plates.lrcat", "*.lrcat"),
    "NG/CaptureOne/Cache/Thumbnails/1.png.cot": ("NG/CaptureOne/", "CaptureOne/"),
    "FOUND.000/FILE0000.CHK": ("FOUND.000/", "FOUND.000/"),
}


@pytest.mark.parametrize("key", JUNK)
def test_what_systems_and_programs_leave_is_junk(key: str):
    assert junk(key) == JUNK[key]


@pytest.mark.parametrize(
    "key",
    [
        *(
            "OK/1.png",
            "NG_MSK/1.png",
            "part.7.png",
            "OK/line 3 (left)/1.bmp",
            "Thumbs/1.png",
            "OK/eaDir/1.png",
        ),
        *("recycled/1.png", "OK/part/1.png", "OK/M12.part/1.png", "OK/icon.png", "OK/Icon/1.png", "OK/x"),
        *("NG//000.png", "OK/../1.png", "OK/1.json", "splits.csv", "OK/thumbs.db.png", "OK/1_$folder$.png"),
    ],
)
def test_what_may_be_data_is_not_junk(key: str):
    assert junk(key) == ("", "")


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        *(("NG/1.json", ".json"), ("NG/1.XML", ".xml"), ("NG/1.png.txt", ".txt"), ("NG/1.xmp", ".xmp")),
        *(("README", "README"), ("NG/readme", "README"), ("README.md", ".md"), ("classes.txt", ".txt")),
        *(("NG/1.png", ""), ("NG/1", ""), ("NG/json", ""), ("NG/1.txt.png", ""), ("NG/1.dcm", ""), ("a", "")),
    ],
)
def test_files_about_pictures_are_known_by_their_names(key: str, kind: str):
    assert sidecar(key) == kind


def test_a_folder_of_junk_is_counted_once():
    keys = [f"NG/@eaDir/{n}.png/SYNOPHOTO_THUMB_M.jpg" for n in range(5)] + ["OK/@eaDir/"]
    files = ["a/Thumbs.db", "THUMBS.DB", "x.json", "notes.txt", "1.BMP", "odd"]
    assert count_ignored(keys + files) == Counter(
        {"@eaDir/": 2, "Thumbs.db": 2, ".json": 1, ".txt": 1, ".bmp": 1, "without an ending": 1}
    )


def test_a_line_names_the_most_frequent_kinds():
    assert describe(Counter({".json": 1200, "@eaDir/": 2})) == "1,200 .json, 2 @eaDir/"
    assert describe(Counter({f".{n}": 1 for n in range(10)})).endswith("1 .7, 2 others")
    assert describe(Counter()) == ""
