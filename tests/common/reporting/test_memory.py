"""The memory of a container, as both versions of Linux's control groups tell it."""

from pathlib import Path

import pytest

from defectline.components.common.reporting.memory import read_memory
from defectline.components.common.reporting.step_record import GIB, Memory

SECOND = {
    "memory.max": "2147483648\n",
    "memory.current": "2040109465\n",
    "memory.stat": "anon 1600000000\nfile 400000000\nkernel 9000000\nshmem 100000000\n",
    "memory.events": "low 0\nhigh 0\nmax 12\noom 1\noom_kill 1\noom_group_kill 0\n",
}
FIRST = {
    "memory/memory.limit_in_bytes": "2147483648\n",
    "memory/memory.usage_in_bytes": "2040109465\n",
    "memory/memory.stat": "cache 1\ntotal_cache 400000000\ntotal_rss 1600000000\ntotal_shmem 100000000\n",
    "memory/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n",
}


def put(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize("files", [SECOND, FIRST], ids=["second", "first"])
def test_pages_of_files_do_not_count_but_what_lies_in_memory_does(tmp_path: Path, files: dict[str, str]):
    found = read_memory(put(tmp_path, files))
    assert found == Memory(limit_bytes=2 * GIB, highest_bytes=2040109465 - 300000000, killed=1)


@pytest.mark.parametrize(
    "files",
    [
        SECOND | {"memory.max": "max\n"},
        FIRST | {"memory/memory.limit_in_bytes": "9223372036854771712\n"},
        SECOND | {"memory.current": "none of your business\n"},
        {},
    ],
    ids=["no_limit", "no_limit_of_the_first", "not_a_number", "nothing"],
)
def test_without_a_limit_there_is_nothing_to_tell(tmp_path: Path, files: dict[str, str]):
    assert read_memory(put(tmp_path, files)) is None


def test_this_machine_can_be_asked():
    found = read_memory()
    assert found is None or found.highest_bytes > 0
