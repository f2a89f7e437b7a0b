"""The command line: `aiomanager`, and `python -m aiomanager`."""

from __future__ import annotations

import importlib
import sys

__all__ = ["main"]

# What the extra `cli` installs.
_EXTRA = ("typer", "rich")


def main() -> None:
    """Run the command that the arguments name, and exit with its code."""
    try:
        try:
            # What is imported late, by commands that need it, shall be missed at once.
            for name in _EXTRA:
                importlib.import_module(name)
            from ._app import app
        except ModuleNotFoundError as exc:
            missing = (exc.name or "").partition(".")[0]
            if missing not in _EXTRA:
                raise
            sys.exit(
                f"aiomanager: the command line needs {missing}, which is not installed: "
                "pip install 'aiomanager[cli]'"
            )
        app(prog_name="aiomanager")
    except KeyboardInterrupt:
        sys.exit(130)
