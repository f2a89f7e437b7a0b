"""The command line: `aiomanager`, and `python -m aiomanager`."""

from __future__ import annotations

import sys

__all__ = ["main"]

# What the extra `cli` installs.
_EXTRA = frozenset({"typer", "rich"})


def main() -> None:
    """Run the command that the arguments name, and exit with its code."""
    try:
        try:
            from ._app import app
        except ModuleNotFoundError as exc:
            if exc.name is None or exc.name.partition(".")[0] not in _EXTRA:
                raise
            sys.exit(
                f"aiomanager: the command line needs {exc.name}, which is not installed: "
                "pip install 'aiomanager[cli]'"
            )
        app(prog_name="aiomanager")
    except KeyboardInterrupt:
        sys.exit(130)
