"""What processes hold: memory and threads."""

from __future__ import annotations

from pathlib import Path

import psutil

MIB = 1024**2


def resident(pid: int | None = None) -> int:
    """Bytes in memory now."""
    size: int = psutil.Process(pid).memory_info().rss
    return size


def threads(pid: int | None = None) -> int:
    count: int = psutil.Process(pid).num_threads()
    return count


def children() -> list[int]:
    """The processes that this one has started."""
    return [child.pid for child in psutil.Process().children()]


def reset_peak(pid: int) -> None:
    """Let the peak begin anew (Linux)."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def peak(pid: int) -> int:
    """The most bytes that were in memory since then (Linux)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise LookupError("this system does not tell a process's peak memory")
