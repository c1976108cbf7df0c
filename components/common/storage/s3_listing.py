"""A long listing of S3, several folders at once: a server gives 1,000 keys at most in one answer."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any, Protocol

THREADS = 8
MOST_FOLDERS = 16
"""With more, asking for each would take longer than asking for one page after the other."""

Found = list[dict[str, Any]]


class Ask(Protocol):
    """Asks for a page of what lies below a prefix, with further parameters of ListObjectsV2."""

    def __call__(self, prefix: str, **more: str) -> dict[str, Any]: ...


def list_pages(ask: Ask, prefix: str) -> Iterator[Found]:
    """All objects below a prefix, page by page, in no given order."""
    page = ask(prefix)
    found = page.get("Contents", [])
    yield found
    if page["IsTruncated"]:
        parts = _split(ask, prefix, found)
        if parts is None:
            yield from _follow(ask, prefix, page)
        else:
            yield from _list_at_once(ask, *parts)


def _follow(ask: Ask, prefix: str, page: dict[str, Any]) -> Iterator[Found]:
    """What comes after a page, one page after the other."""
    while page["IsTruncated"]:
        page = ask(prefix, ContinuationToken=page.get("NextContinuationToken", ""))
        yield page.get("Contents", [])


def _split(ask: Ask, prefix: str, found: Found) -> tuple[Found, dict[str, dict[str, str]]] | None:
    """What comes after a page that has `found`: objects in no folder, and the folders to list.

    None where there are too few or too many folders for that, or the server does not sort its keys.
    """
    keys = [item["Key"] for item in found]
    if not keys or keys != sorted(keys):
        return None
    last = keys[-1]
    page = ask(prefix, Delimiter="/")
    folders = [item["Prefix"] for item in page.get("CommonPrefixes", [])]
    if page["IsTruncated"] or not 2 <= len(folders) <= MOST_FOLDERS:
        return None
    rest = {name: {"StartAfter": last} if last.startswith(name) else {} for name in folders}
    alone = [item for item in page.get("Contents", []) if item["Key"] > last]
    return alone, {name: more for name, more in rest.items() if more or name > last}


def _list_at_once(ask: Ask, alone: Found, folders: dict[str, dict[str, str]]) -> Iterator[Found]:
    stopped = threading.Event()

    def list_folder(name: str, more: dict[str, str]) -> list[Found]:
        pages = [page := ask(name, **more)]
        while page["IsTruncated"] and not stopped.is_set():
            token = page.get("NextContinuationToken", "")
            pages.append(page := ask(name, **more, ContinuationToken=token))
        return [page.get("Contents", []) for page in pages]

    yield alone
    with ThreadPoolExecutor(THREADS) as pool:
        try:
            for done in as_completed([pool.submit(list_folder, *folder) for folder in folders.items()]):
                yield from done.result()
        finally:
            # After an error, or where no more is wanted, the others are not waited for.
            stopped.set()
            pool.shutdown(cancel_futures=True)
