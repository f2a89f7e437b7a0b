"""The shape of the package: what is long is looking for its seam, and a folder for its rooms.

Who may import whom is what `lint-imports` checks, by the contracts in pyproject.toml.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.every_python

ROOT = Path(__file__).parents[1] / "aiomanager"
FILES = {str(path.relative_to(ROOT)): path.read_text("utf-8") for path in ROOT.rglob("*.py")}

LONGEST_FILE = 450
# Lines from the docstring on: a signature, with its options, is read as a table.
LONGEST_FUNCTION = 60
MOST_ENTRIES = 16

# All that is imported beside the standard library; pyproject.toml says who may import it. Type
# checkers, for which alone `typing_extensions` is imported, bring it along.
THIRD_PARTY = {"anyio", "psutil", "rich", "sniffio", "trio", "typer", "typing_extensions"}


def test_files_are_short():
    """What has grown past the limit consists of two things."""
    lengths = {name: len(source.splitlines()) for name, source in FILES.items()}
    assert {name: lines for name, lines in lengths.items() if lines > LONGEST_FILE} == {}


def test_functions_are_short():
    """A function is seen as a whole, on one screen."""
    lengths = {
        f"{name}:{function.lineno} {function.name}": lines_of_body(function)
        for name, source in FILES.items()
        for function in ast.walk(ast.parse(source))
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert {name: lines for name, lines in lengths.items() if lines > LONGEST_FUNCTION} == {}


def test_the_package_is_seen_at_a_glance():
    """A newcomer sees few entries first."""
    entries = {path.name for path in ROOT.iterdir()} - {"__pycache__"}
    assert len(entries) <= MOST_ENTRIES, sorted(entries)


def test_nothing_is_imported_that_is_no_dependency():
    """A user has what the package declares, and not what its tests have installed."""
    known = sys.stdlib_module_names | THIRD_PARTY | {"aiomanager"}
    unknown = {name: set(imported(source)) - known for name, source in FILES.items()}
    assert {name: modules for name, modules in unknown.items() if modules} == {}


def lines_of_body(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """How many lines it has below its signature."""
    assert function.end_lineno is not None
    return function.end_lineno - function.body[0].lineno + 1


def imported(source: str) -> Iterator[str]:
    """The top names of what is imported by absolute names, wherever in the source."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            assert node.module is not None
            yield node.module.partition(".")[0]
