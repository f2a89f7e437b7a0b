"""The tree of this process and those that it has started."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from rich.text import Text
from rich.tree import Tree

try:
    import psutil as _psutil
except ImportError:
    psutil: Any = None
else:
    psutil = _psutil


def process_tree(roles: Mapping[int, str]) -> Tree:
    """What runs: as the system has it where psutil is installed, else as we know it ourselves.

    Args:
        roles: what each process is, by its id, this one's included.
    """
    own = os.getpid()
    tree = Tree(_label(own, roles))
    if psutil is not None:
        _add_children(tree, own, roles)
    else:
        for pid in sorted(roles.keys() - {own}):
            tree.add(_label(pid, roles))
    return tree


def _add_children(tree: Tree, pid: int, roles: Mapping[int, str]) -> None:
    for child in psutil.Process(pid).children():
        _add_children(tree.add(_label(child.pid, roles)), child.pid, roles)


def _label(pid: int, roles: Mapping[int, str]) -> Text:
    label = Text.assemble((f"{roles.get(pid, '?'):<11}", "bold"), (f" pid {pid}", "cyan"))
    if psutil is not None:
        try:
            process = psutil.Process(pid)
            threads, memory = process.num_threads(), process.memory_info().rss
        except psutil.Error:
            label.append("  ended", "dim")
        else:
            count = "1 thread" if threads == 1 else f"{threads} threads"
            label.append(f"  {count}, {memory / 1e6:.0f} MB", "dim")
    return label
