"""`python -m aiomanager`: the command line."""

from __future__ import annotations

from aiomanager.cli import main

if __name__ == "__main__":
    main()
