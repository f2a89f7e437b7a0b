"""The shape of the package: imports point down, and a long file is looking for its seam."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import layers

pytestmark = pytest.mark.every_python

ROOT = Path(__file__).parent.parent / layers.PACKAGE

LONGEST = 450


def test_imports_point_down():
    """Each module imports what stands below it, and only what it may depend on."""
    assert layers.violations(ROOT) == []


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda path: path.name)
def test_file_is_short(path):
    """What has grown past the limit consists of two things."""
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= LONGEST, f"{lines} lines"


BROKEN = {
    "upward": ("_wire/messages.py", "from .._host.manager import QueueManager", "is above it"),
    "upward, absolute": (
        "_wire/messages.py",
        "from aiomanager._host.manager import QueueManager",
        "is above it",
    ),
    "upward, the module": (
        "_wire/messages.py",
        "from .._host import manager",
        "imports _host.manager, which",
    ),
    "upward, to the root": ("_queue/queue.py", "from .. import connect", "imports __init__, which"),
    "upward, within a function": (
        "_wire/messages.py",
        "def f():\n    from .._host import manager",
        "is above it",
    ),
    "upward, for types": (
        "_wire/messages.py",
        "if TYPE_CHECKING:\n    import aiomanager._host.manager",
        "is above it",
    ),
    "upward, from a folder": (
        "engines/base.py",
        "from .._queue.queue import AsyncQueue",
        "is above it",
    ),
    "engine, from an engine": ("engines/hosted.py", "from .stock import engine", "not one another"),
    "engine, from the queue": (
        "_queue/queue.py",
        "from ..engines.stock import engine",
        "pick an engine",
    ),
    "event loop in the host": ("_host/server.py", "import asyncio", "no event loop"),
    "third party in the host": ("_host/server.py", "import psutil", "not its dependency"),
    "third party": ("_queue/queue.py", "import typer", "not its dependency"),
    "third party, a module of it": (
        "_queue/queue.py",
        "from rich.table import Table",
        "not its dep",
    ),
    "trio at the top": (
        "_concurrency/event_loop.py",
        "import trio.lowlevel",
        "may not be installed",
    ),
    "one platform": ("_host/manager.py", "import fcntl", "not there on every platform"),
    "one platform, a name": (
        "_host/manager.py",
        "from resource import RLIMIT_NOFILE",
        "every platform",
    ),
    "private name": ("cli/top.py", "from aiomanager import _queue", "_queue, which is not public"),
    "private module": (
        "cli/top.py",
        "from .._queue.queue import AsyncQueue",
        "which is not public",
    ),
    "no place": ("utils.py", "", "utils has no place"),
    "no place, imported": (
        "_queue/queue.py",
        "from . import helpers",
        "_queue.helpers has no place",
    ),
}


@pytest.mark.parametrize("file, source, message", BROKEN.values(), ids=BROKEN)
def test_what_breaks_a_rule_is_found(tmp_path, file, source, message):
    """A check that has never failed proves nothing."""
    found = layers.violations(package(tmp_path, {file: source}))
    assert any(message in violation and violation.startswith(file) for violation in found), found


PERMITTED = {
    "downward": (
        "_queue/queue.py",
        "from ..engines.base import QueueEngine\nfrom .._ground import errors",
    ),
    "picking an engine": ("_client/manager.py", "from ..engines import hosted, memory"),
    "event loop, for the errors": ("_ground/errors.py", "import asyncio"),
    "trio when it runs": ("_concurrency/event_loop.py", "def spawn():\n    import trio"),
    "one platform, guarded": (
        "_host/manager.py",
        "try:\n    import fcntl\nexcept ImportError: ...",
    ),
    "public names": ("cli/top.py", "from aiomanager import AsyncQueue, __version__"),
    "own modules": ("cli/top.py", "from . import _tables\nfrom ._tables import Table"),
}


@pytest.mark.parametrize("file, source", PERMITTED.values(), ids=PERMITTED)
def test_what_keeps_the_rules_is_permitted(tmp_path, file, source):
    """The rules hold back nothing else."""
    assert layers.violations(package(tmp_path, {file: source})) == []


def package(folder: Path, files: dict[str, str]) -> Path:
    """Make a package of one empty file for each module, but for the given ones."""
    modules = [name.replace(".", "/") for name in layers.ORDER if name not in layers.OUTSIDE]
    packages = {module.rpartition("/")[0] for module in modules} - {""}
    modules = [f"{module}/__init__" if module in packages else module for module in modules]
    names = [f"{module}.py" for module in (*modules, "cli/_tables", "_queue/helpers")]
    sources = dict.fromkeys(names, "") | files
    if "helpers" not in str(files):
        del sources["_queue/helpers.py"]
    for name, source in sources.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    return folder
