"""The listing that all readers are given."""

from collections import Counter
from pathlib import Path

import pytest

from defectline.components.common.storage import open_storage
from defectline.components.ingest.readers.base import Listing

FILES = ("OK/1.png", "NG/1.png", "NG/1.json", "NG_MSK/1.png")
JUNK = (
    *("Thumbs.db", "OK/THUMBS.DB", "OK/Desktop.ini", "OK/Icon\r", "OK/sub_$folder$", "OK/._1.png"),
    *("NG/@eaDir/1.png/SYNOPHOTO_THUMB_M.jpg", "NG/@eaDir/1.png/SYNOPHOTO_THUMB_B.jpg"),
    *("lost+found/1.png", ".snapshot/hourly.0/OK/1.png", "__MACOSX/OK/._1.png"),
)


@pytest.mark.parametrize("scheme", ["folder", "s3"])
def test_a_listing_has_no_junk_and_counts_it(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, scheme: str
):
    if scheme == "folder":
        for key in FILES + JUNK:
            (tmp_path / key).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / key).write_bytes(b"x")
        source = open_storage(str(tmp_path))
    else:
        server = request.getfixturevalue("s3_server")
        for name, value in server.env.items():
            monkeypatch.setenv(name, value)
        source = open_storage(f"s3://{server.new_bucket()}/plates")
        for key in (*FILES, *JUNK, "OK/", "NG/"):
            source.write(key, b"x")
    listing = Listing(source, source.list_all())
    assert [item.key for item in listing.objects] == sorted(FILES)
    assert listing.read("NG/1.json") == b"x"
    assert listing.ignored == Counter(
        {
            **{"Thumbs.db": 2, "desktop.ini": 1, "Icon": 1, "*_$folder$": 1, "._*": 1},
            **{"@eaDir/": 1, "lost+found/": 1, ".*/": 1, "__MACOSX/": 1},
        }
    )
