"""The supported Pythons that this machine has, and older ones, which its peers may have.

As a program it prints a line for each supported version: the version, and the path or a dash.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

SUPPORTED = ("3.11", "3.12", "3.13", "3.14")
# Those for which the standard library's pickles are others than today.
OLDER = ("3.6", "3.7", "3.8")


def installed(versions: Sequence[str] = SUPPORTED) -> dict[str, str]:
    """The path of a working interpreter for each of the versions that there is.

    This process's own comes first, then what is on the PATH, then what pyenv has installed.
    """
    found: dict[str, str] = {}
    for version in versions:
        for path in _candidates(version):
            if _version(path) == version:
                found[version] = path
                break
    return found


def _candidates(version: str) -> Iterator[str]:
    if version == f"{sys.version_info.major}.{sys.version_info.minor}":
        yield sys.executable
    on_path = shutil.which(f"python{version}")
    if on_path is not None:
        yield on_path
    pyenv = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser()
    yield from sorted(map(str, pyenv.glob(f"versions/{version}.*/bin/python")), reverse=True)


def _version(path: str) -> str | None:
    """What the interpreter says of itself; None from a shim of a version that is not there."""
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    try:
        run = subprocess.run(
            [path, "-c", code], capture_output=True, text=True, check=True, timeout=30
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return run.stdout.strip()


if __name__ == "__main__":
    paths = installed()
    for supported in SUPPORTED:
        print(supported, paths.get(supported, "-"))
