"""Long listings, against moto and against a server that is played."""

import random
from collections.abc import Iterator
from typing import Any

import pytest
from buckets import Between
from faults import Rule, answer, faults
from servers import S3Server

from defectline.components.common.errors import StoreError
from defectline.components.common.storage import Storage, open_storage
from defectline.components.common.storage.s3 import S3Storage
from defectline.components.common.storage.s3_listing import MOST_FOLDERS, list_pages


class Played:
    """S3's own rules of listing, `page` keys at once."""

    def __init__(self, keys: list[str], page: int = 10, is_sorted: bool = True):
        self.keys = sorted(keys) if is_sorted else keys
        self.page, self.asked = page, list[dict[str, str]]()

    def __call__(self, prefix: str, **more: str) -> dict[str, Any]:
        self.asked.append({"Prefix": prefix, **more})
        found: dict[str, bool] = {}
        for key in self.keys:
            if key.startswith(prefix) and key > more.get("StartAfter", ""):
                folder, slash, _ = key[len(prefix) :].partition("/")
                grouped = bool("Delimiter" in more and slash)
                found[f"{prefix}{folder}/" if grouped else key] = grouped
        # A token says where to go on, whatever else is said.
        names = list(found)
        start = names.index(more["ContinuationToken"]) + 1 if "ContinuationToken" in more else 0
        shown = list(found.items())[start : start + self.page]
        answer: dict[str, Any] = {"IsTruncated": start + self.page < len(found)}
        if answer["IsTruncated"]:
            answer["NextContinuationToken"] = shown[-1][0]
        # Without any, S3 leaves the list out.
        for name, grouped in (("Contents", False), ("CommonPrefixes", True)):
            if rows := [text for text, folder in shown if folder is grouped]:
                answer[name] = [{"Prefix" if grouped else "Key": text} for text in rows]
        return answer


def listed(played: Played, prefix: str = "") -> list[str]:
    return [found["Key"] for page in list_pages(played, prefix) for found in page]


def folders(count: int, each: int) -> Iterator[str]:
    for folder in range(count):
        yield from (f"{folder:02}/{number:03}.png" for number in range(each))


@pytest.mark.parametrize("each", [0, 1, 4, 9, 10, 11, 30])
@pytest.mark.parametrize("count", [0, 1, 2, 4, MOST_FOLDERS, MOST_FOLDERS + 1])
def test_each_key_is_listed_once(count: int, each: int):
    keys = [*folders(count, each), "00.csv", "01", "02/deep/er/1.png", "zz.csv", "ä/1", "🙂/1"]
    played = Played(keys)
    assert sorted(listed(played)) == sorted(keys)


def test_any_keys_are_listed_once():
    for seed in range(200):
        draw = random.Random(seed)
        names = ("".join(draw.choices("ab/.ué", k=draw.randint(1, 6))) for _ in range(draw.randint(1, 90)))
        keys = sorted(set(names))
        prefix = draw.choice(["", "a", "a/", "b/a"])
        played = Played(keys, page=draw.randint(1, 20))
        assert sorted(listed(played, prefix)) == [key for key in keys if key.startswith(prefix)], seed


def test_a_server_that_does_not_sort_is_followed():
    """As directory buckets of S3 Express do."""
    keys = list(folders(4, 25))
    random.Random(0).shuffle(keys)
    played = Played(keys, is_sorted=False)
    assert sorted(listed(played)) == sorted(keys)
    assert not any("StartAfter" in asked or "Delimiter" in asked for asked in played.asked)


def test_a_short_listing_is_one_request():
    played = Played(list(folders(4, 2)))
    listed(played)
    assert played.asked == [{"Prefix": ""}]


def test_nothing_that_was_listed_is_asked_for_again():
    played = Played(list(folders(4, 25)))
    listed(played)
    by_folder = {asked["Prefix"] for asked in played.asked if asked["Prefix"]}
    assert by_folder == {"00/", "01/", "02/", "03/"}
    assert played.asked[1] == {"Prefix": "", "Delimiter": "/"}
    assert {"Prefix": "00/", "StartAfter": "00/009.png"} in played.asked
    # 15 keys are left of the first folder, and 25 in each of three others.
    assert len(played.asked) == 2 + 2 + 3 * 3


def test_a_listing_that_is_not_read_to_its_end_ends():
    played = Played(list(folders(4, 100)))
    pages = list_pages(played, "")
    for _ in range(3):
        next(pages)
    pages.close()
    count = len(played.asked)
    assert count < 4 * 10
    assert len(played.asked) == count


@pytest.fixture
def long(
    between: tuple[Between, Storage], monkeypatch: pytest.MonkeyPatch
) -> tuple[Between, Storage, list[str]]:
    relay, store = between
    monkeypatch.setattr(S3Storage, "PAGE_KEYS", 10)
    written = [*folders(4, 12), "00.csv", "zz.csv"]
    for key in written:
        store.write(key, b"x")
    relay.paths.clear()
    return relay, store, sorted(written)


@pytest.mark.parametrize("between", ["s3"], indirect=True)
def test_a_real_server_is_asked_for_folders_at_once(long: tuple[Between, Storage, list[str]]):
    relay, store, written = long
    assert sorted(found.key for found in store.list()) == written
    assert any("start-after=" in path for path in relay.paths)
    assert {found.size for found in store.list()} == {1}


def test_an_error_in_one_folder_is_the_error_of_the_listing(
    s3: str, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(S3Storage, "PAGE_KEYS", 5)
    with faults(s3_server.url) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        store = open_storage(s3)
        for key in folders(4, 12):
            store.write(key, b"x")
        proxy.rules = [Rule(answer(403, "AccessDenied"), "GET", "^$", first=5)]
        with pytest.raises(StoreError, match="AccessDenied"):
            list(store.list())
