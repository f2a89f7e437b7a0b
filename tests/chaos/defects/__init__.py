"""Seeded defects: what this library would be if somebody had made a mistake, to see that the
harness notices. Each is one small patch, of the host or of the client, that the programs under fire
put in place before they begin.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any
from unittest import mock

from tests.chaos.defects import clients, connections, ends, queues
from tests.chaos.defects.table import Defect

DEFECTS: dict[str, Defect] = {
    **queues.DEFECTS,
    **clients.DEFECTS,
    **connections.DEFECTS,
    **ends.DEFECTS,
}


def apply_defect(options: dict[str, Any]) -> None:
    """Let this process have the defect that the options name, to its end."""
    if options.get("defect"):
        for patch in DEFECTS[options["defect"]]():
            setattr(*patch)


@contextlib.contextmanager
def seeded(name: str) -> Iterator[None]:
    """Let this process have a defect for a while."""
    with contextlib.ExitStack() as stack:
        for patch in DEFECTS[name]():
            stack.enter_context(mock.patch.object(*patch))
        yield
