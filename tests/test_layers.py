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
    "upward": ("_wire.py", "from ._host import QueueManager", "is above it"),
    "upward, absolute": ("_wire.py", "from aiomanager._host import QueueManager", "is above it"),
    "upward, the module": ("_wire.py", "from . import _host", "imports _host, which is above"),
    "upward, to the root": ("_queue.py", "from . import connect", "imports __init__, which"),
    "upward, within a function": ("_wire.py", "def f():\n    from . import _host", "is above it"),
    "upward, for types": (
        "_wire.py",
        "if TYPE_CHECKING:\n    import aiomanager._host",
        "is above it",
    ),
    "upward, from a folder": ("engines/base.py", "from .._queue import AsyncQueue", "is above it"),
    "engine, from an engine": ("engines/hosted.py", "from . import stock", "not one another"),
    "engine, from the queue": ("_queue.py", "from .engines import stock", "pick an engine"),
    "event loop in the host": ("_server.py", "import asyncio", "no event loop"),
    "third party in the host": ("_server.py", "import psutil", "not its dependency"),
    "third party": ("_queue.py", "import typer", "not its dependency"),
    "third party, a module of it": ("_queue.py", "from rich.table import Table", "not its dep"),
    "trio at the top": ("_tasks.py", "import trio.lowlevel", "may not be installed"),
    "one platform": ("_host.py", "import fcntl", "not there on every platform"),
    "one platform, a name": ("_host.py", "from resource import RLIMIT_NOFILE", "every platform"),
    "private name": ("cli/top.py", "from aiomanager import _queue", "_queue, which is not public"),
    "private module": ("cli/top.py", "from .._queue import AsyncQueue", "which is not public"),
    "no place": ("utils.py", "", "utils has no place"),
    "no place, imported": ("_queue.py", "from . import helpers", "helpers has no place"),
}


@pytest.mark.parametrize("file, source, message", BROKEN.values(), ids=BROKEN)
def test_what_breaks_a_rule_is_found(tmp_path, file, source, message):
    """A check that has never failed proves nothing."""
    found = layers.violations(package(tmp_path, {file: source}))
    assert any(message in violation and violation.startswith(file) for violation in found), found


PERMITTED = {
    "downward": ("_queue.py", "from .engines.base import QueueEngine\nfrom . import _errors"),
    "picking an engine": ("_client.py", "from .engines import hosted, stock"),
    "event loop, for the errors": ("_errors.py", "import asyncio"),
    "trio when it runs": ("_tasks.py", "def spawn():\n    import trio"),
    "one platform, guarded": ("_host.py", "try:\n    import fcntl\nexcept ImportError: ..."),
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
    modules.remove("engines")
    names = [f"{module}.py" for module in (*modules, "cli/_tables", "engines/__init__", "helpers")]
    sources = dict.fromkeys(names, "") | files
    if "helpers" not in str(files):
        del sources["helpers.py"]
    for name, source in sources.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(source)
    return folder
