"""Which module may import which: the table, and what breaks it, read from the source.

A module may import what stands before it in `ORDER`. test_layers.py applies the rules.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PACKAGE = "aiomanager"

# Runs in the host process, or on both sides.
HOST = (
    "_ground",
    "_wire",
    "_broker",
    "_host",
    "_ground.errors",
    "_ground.addresses",
    "_wire.items",
    "_ground.buffers",
    "_wire.seals",
    "_wire.framing",
    "_wire.handshake",
    "_wire.endpoint",
    "_wire.hello",
    "_wire.messages",
    "_wire.requests",
    "_ground.authkeys",
    "_broker.backlog",
    "_wire.passthrough",
    "_wire.restricted_pickle",
    "_broker.leases",
    "_broker.waiters",
    "_broker.takes",
    "_wire.dead_letters",
    "_broker.places",
    "_broker.queue",
    "_host.faces",
    "_host.readiness",
    "_host.reactor",
    "_host.lifecycle",
    "_host.private_folder",
    "_host.listener",
    "_host.object_threads",
    "_host.connection",
    "_host.client_sessions",
    "_host.own_clients",
    "_host.settings",
    "_host.memory_reserve",
    "_host.server",
    "_host.manager",
    "_host.child",
)
# Talks to a host.
LANES = (
    "_concurrency",
    "_transport",
    "_proxies",
    "_transport.forks",
    "_concurrency.event_loop",
    "_concurrency.futures",
    "_concurrency.batching",
    "_concurrency.finalizers",
    "_transport.leaving",
    "_wire.replies",
    "_transport.errors",
    "_transport.base",
    "_transport.patience",
    "_transport.pool",
    "_transport.farewell",
    "_transport.approach",
    "_transport.connecting",
    "_proxies.long_poll",
    "_transport.blocking",
    "_transport.thread",
    "_transport.stream",
    "_transport.unanswered",
    "_transport.session",
    "_proxies.host_connections",
    "_proxies.references",
)
CONTRACT = (
    "engines",
    "engines.base",
    "engines.stock",
    "engines.stock.leftovers",
    "engines.stock.odd_queues",
    "engines.stock.remote_object",
    "engines.stock.keeping",
)
ENGINES = ("engines.stock.engine", "engines.hosted", "engines.memory", "engines.redis")
# Knows the contract, and no engine.
QUEUE = (
    "_queue",
    "_queue.fetcher",
    "_queue.sender",
    "_queue.prefetching",
    "_queue.leases",
    "_queue.local",
    "_queue.inside",
    "_queue.deliveries",
    "_queue.queue",
    "_queue.consumer",
)
# Knows no queue: other objects of a manager, and the host process of a program's own.
BESIDE = (
    "_proxies.base",
    "_proxies.signatures",
    "_proxies.containers",
    "_proxies.kinds",
    "_proxies.pools",
    "_proxies.locks",
    "_proxies.conditions",
    "_client.host_process",
)
# Picks the engine.
FRONT = (
    "_client",
    "_proxies.wrap",
    "_client.options",
    "_client.hosted_objects",
    "_client.manager",
    "_client.connect",
    "__init__",
)
# Uses public names, as any program does; each may be a package with modules of its own.
OUTSIDE = ("testing", "web", "cli", "__main__")

ORDER = HOST + LANES + CONTRACT + ENGINES + QUEUE + BESIDE + FRONT + OUTSIDE

# Who may import what is not in the standard library.
THIRD_PARTY = {
    "anyio": ORDER[len(HOST) :],
    "trio": ("_concurrency.event_loop", "_concurrency.futures"),
    "sniffio": ("_concurrency.event_loop",),
    "typing_extensions": ("_queue.queue",),  # for type checkers alone
    "coredis": ("engines.redis",),
    "fastapi": ("web",),
    "starlette": ("web",),
    "uvicorn": ("web",),
    "psutil": ("cli",),
    "rich": ("cli",),
    "typer": ("cli",),
}

# Not to be had on every platform, so that importing them at the top makes the package unusable.
ONE_PLATFORM = frozenset(
    [
        "_posixshmem",
        "_posixsubprocess",
        "_winapi",
        "crypt",
        "curses",
        "fcntl",
        "grp",
        "msvcrt",
        "nis",
        "nt",
        "posix",
        "pty",
        "pwd",
        "readline",
        "resource",
        "spwd",
        "syslog",
        "termios",
        "tty",
        "winreg",
        "winsound",
    ]
)

EVENT_LOOPS = frozenset({"asyncio", "anyio", "trio", "uvloop"})


@dataclass(frozen=True)
class Import:
    """One imported module."""

    line: int
    target: str  # absolute, dotted
    names: tuple[str, ...]  # of what is imported from it
    unconditional: bool  # a statement of the module itself, under no `if`, `try` or `def`


def violations(root: Path) -> list[str]:
    """What the package in the folder `root` does against the rules, with file and line."""
    return [
        f"{path.relative_to(root)}:{line}: {message}"
        for path in sorted(root.rglob("*.py"))
        for line, message in _violations_in(path, root)
    ]


def _violations_in(path: Path, root: Path) -> Iterator[tuple[int, str]]:
    module = _place(_dotted(path, root))
    if module not in ORDER:
        yield 1, f"{module} has no place in tests/layers.py"
        return
    for found in _imports(path, root):
        top, _, inner = found.target.partition(".")
        if top == PACKAGE:
            message = _inside(module, _place(inner or "__init__"), found)
        else:
            message = _outside(module, top, found)
        if message is not None:
            yield found.line, message


def _inside(module: str, target: str, found: Import) -> str | None:
    if target == module:
        return None
    if target not in ORDER:
        return f"{target} has no place in tests/layers.py"
    if ORDER.index(target) > ORDER.index(module):
        return f"{module} imports {target}, which is above it"
    if module in ENGINES and target in ENGINES:
        return f"{module} imports {target}: engines know the contract, not one another"
    if module in QUEUE and target in ENGINES:
        return f"{module} imports {target}: only {' and '.join(FRONT[:2])} pick an engine"
    if module in OUTSIDE:
        private = [
            name
            for name in (*found.target.split("."), *found.names)
            if name.startswith("_") and not name.endswith("__")
        ]
        if private:
            return f"{module} uses {', '.join(private)}, which is not public"
    return None


def _outside(module: str, top: str, found: Import) -> str | None:
    # The errors are the event loop's as well, by inheritance.
    if top in EVENT_LOOPS and module in HOST and module != "_ground.errors":
        return f"{module} imports {top}: what runs in the host has no event loop"
    if top not in sys.stdlib_module_names:
        if module not in THIRD_PARTY.get(top, ()):
            return f"{module} imports {top}, which is not its dependency"
        if top in ("trio", "sniffio") and found.unconditional:
            return f"{module} imports {top}, which may not be installed, at the top"
    if top in ONE_PLATFORM and found.unconditional:
        return f"{module} imports {top}, which is not there on every platform, at the top"
    return None


def _dotted(path: Path, root: Path) -> str:
    """The name of a module inside the package; a package's is that of its folder."""
    parts = path.relative_to(root).with_suffix("").parts
    if parts[-1] == "__init__" and len(parts) > 1:
        parts = parts[:-1]
    return ".".join(parts)


def _place(module: str) -> str:
    first = module.partition(".")[0]
    return first if first in OUTSIDE else module


def _imports(path: Path, root: Path) -> Iterator[Import]:
    tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    unconditional = set(tree.body)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(node.lineno, alias.name, (), node in unconditional)
        elif isinstance(node, ast.ImportFrom):
            origin = _origin(node, path, root)
            for alias in node.names:
                # `from . import _queue` imports a module, `from ._queue import AsyncQueue` a name.
                inner = f"{origin}.{alias.name}"
                if _is_module(inner, root):
                    yield Import(node.lineno, inner, (), node in unconditional)
                else:
                    yield Import(node.lineno, origin, (alias.name,), node in unconditional)


def _origin(node: ast.ImportFrom, path: Path, root: Path) -> str:
    if not node.level:
        assert node.module is not None
        return node.module
    package = [PACKAGE, *path.relative_to(root).parent.parts]
    package = package[: len(package) - node.level + 1]
    return ".".join([*package, *([node.module] if node.module else [])])


def _is_module(dotted: str, root: Path) -> bool:
    top, *rest = dotted.split(".")
    if top != PACKAGE or not rest:
        return False
    path = root.joinpath(*rest)
    return path.with_suffix(".py").is_file() or path.is_dir()
