"""Folders, and what is wrong with them."""

from pathlib import Path

import pytest
from buckets import keys

from defectline.components.common.errors import SourceError, StoreError, Unreadable
from defectline.components.common.storage import open_storage


def test_a_file_uri_with_odd_names(tmp_path: Path):
    (tmp_path / "a b").mkdir()
    (tmp_path / "a b" / "x").write_bytes(b"1")
    assert open_storage((tmp_path / "a b").as_uri()).read("x") == b"1"
    (tmp_path / "c#d").mkdir()
    (tmp_path / "c#d" / "x").write_bytes(b"2")
    assert open_storage(f"file://{tmp_path}/c#d").read("x") == b"2"


@pytest.mark.parametrize("key", ["../x", "/etc/passwd", "a/../../x", "a\\b", "a\nb", "a//b", "a/", ""])
def test_a_key_cannot_leave_the_folder(tmp_path: Path, key: str):
    store = open_storage(str(tmp_path / "store"))
    with pytest.raises(SourceError):
        store.write(key, b"x")
    with pytest.raises(SourceError):
        store.read(key)


def test_a_folder_that_is_not_there_or_is_a_file(tmp_path: Path):
    with pytest.raises(StoreError, match="no such folder"):
        keys(open_storage(str(tmp_path / "absent")))
    (tmp_path / "file").write_bytes(b"")
    for place in ("file", "file/below"):
        store = open_storage(str(tmp_path / place))
        with pytest.raises(StoreError, match=place):
            keys(store)
        with pytest.raises(StoreError, match=place):
            store.write("key", b"x")
        with pytest.raises(StoreError, match=place):
            store.compare_and_swap("key", b"x", None)


def test_the_first_write_makes_the_folder(tmp_path: Path):
    store = open_storage(str(tmp_path / "new" / "store"))
    store.write("key", b"x")
    assert keys(store) == ["key"]


def test_a_folder_in_place_of_a_key(tmp_path: Path):
    store = open_storage(str(tmp_path))
    store.write("a/b", b"x")
    for key in ("a", "a/b/c"):
        with pytest.raises(KeyError):
            store.read(key)
        with pytest.raises(StoreError):
            store.write(key, b"y")
    assert keys(store) == ["a/b"]
    assert [path.name for path in tmp_path.rglob("*")] == ["a", "b"]


def test_a_failed_write_leaves_the_old_content_and_nothing_else(tmp_path: Path):
    store = open_storage(str(tmp_path / "store"))
    store.write("pack", b"old")
    with pytest.raises(StoreError, match="directory"):
        store.upload(tmp_path, "pack")
    # A memory file that breaks off in the middle of the copy.
    with pytest.raises(StoreError):
        store.upload(Path("/proc/self/mem"), "pack")
    assert store.read("pack") == b"old"
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["pack"]


def test_a_link_that_leads_nowhere_is_named(tmp_path: Path):
    (tmp_path / "1.png").symlink_to(tmp_path / "gone.png")
    with pytest.raises(StoreError, match=r"1\.png"):
        keys(open_storage(str(tmp_path)))


@pytest.mark.parametrize("target", ["1.png", "2.png"], ids=["itself", "each_other"])
def test_links_that_lead_in_circles_are_named(tmp_path: Path, target: str):
    (tmp_path / "1.png").symlink_to(tmp_path / target)
    (tmp_path / "2.png").symlink_to(tmp_path / "1.png")
    with pytest.raises(StoreError, match=r"[12]\.png cannot be read") as caught:
        keys(open_storage(str(tmp_path)))
    assert "link" in caught.value.fix


@pytest.mark.parametrize("target", [".", "..", "../..", "../../../source"])
def test_a_link_to_a_folder_around_it_leads_to_nothing_new(tmp_path: Path, target: str):
    store = open_storage(str(tmp_path / "source"))
    for key in ("OK/a/1.png", "OK/b/2.png", "NG/3.png"):
        store.write(key, b"x")
    (tmp_path / "source/OK/a/loop").symlink_to(target)
    (tmp_path / "source/more").symlink_to("NG")
    files = ["NG/3.png", "OK/a/1.png", "OK/b/2.png", "more/3.png"]
    assert keys(store) == files
    assert keys(store, "OK/a/") == ["OK/a/1.png"]


def test_folders_of_systems_are_not_opened(tmp_path: Path):
    """Some of them only root may read, and others hold a copy of the whole drive for each day."""
    store = open_storage(str(tmp_path))
    for key in (
        "OK/1.png",
        "lost+found/1",
        ".snapshot/daily/OK/1.png",
        "OK/@eaDir/1.png/SYNOPHOTO_THUMB_M.jpg",
    ):
        store.write(key, b"x")
    assert keys(store) == ["OK/1.png"]
    assert keys(store, "lost+found/") == keys(store, ".snapshot/daily/OK/") == []
    assert sorted(found.key for found in store.list_all()) == [
        *(".snapshot/", "OK/1.png", "OK/@eaDir/", "lost+found/")
    ]


def test_the_lock_of_an_editor_is_not_followed(tmp_path: Path):
    (tmp_path / ".#1.png").symlink_to("person@host.123:456")
    assert keys(open_storage(str(tmp_path))) == []


def test_a_file_on_a_damaged_disk(tmp_path: Path):
    # Its beginning can never be read: "Input/output error".
    (tmp_path / "1.png").symlink_to("/proc/self/mem")
    with pytest.raises(Unreadable, match=r"1\.png|mem"):
        open_storage(str(tmp_path)).read("1.png")
