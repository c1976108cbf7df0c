"""How much memory the container has, and how much of it is in use."""

from pathlib import Path

from defectline.components.common.reporting.step_record import Memory

CGROUP = Path("/sys/fs/cgroup")
NO_LIMIT = 1 << 60
"""The first version of control groups writes a number above this where there is none."""


def read_memory(root: Path = CGROUP) -> Memory | None:
    """What is in use now; None where the container has no limit, or the kernel does not say.

    Without the pages of files, which fill any limit and are given back when memory is needed.
    """
    try:
        if (root / "memory.max").exists():
            limit = (root / "memory.max").read_text().strip()
            used, files = (root / "memory.current").read_text(), ("file", "shmem")
            stat, events = root / "memory.stat", _numbers(root / "memory.events")
        else:
            old = root / "memory"
            limit = (old / "memory.limit_in_bytes").read_text().strip()
            used, files = (old / "memory.usage_in_bytes").read_text(), ("total_cache", "total_shmem")
            stat, events = old / "memory.stat", _numbers(old / "memory.oom_control")
        if limit == "max" or int(limit) >= NO_LIMIT:
            return None
        numbers = _numbers(stat)
        # What lies in /dev/shm or another folder in memory counts as a file too, and stays.
        cached = numbers.get(files[0], 0) - numbers.get(files[1], 0)
        return Memory(
            limit_bytes=int(limit),
            highest_bytes=max(0, int(used) - cached),
            killed=events.get("oom_kill", 0),
        )
    except (OSError, ValueError):
        return None


def _numbers(path: Path) -> dict[str, int]:
    return {name: int(value) for name, value in (line.split() for line in path.read_text().splitlines())}
