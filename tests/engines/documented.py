"""The engine of docs/engines.md, for the tests of the contract: whoever writes one by that page
shall find it right."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from aiomanager.engines.base import QueueEngine
from tests.support.programs import PROJECT

_PAGE = (PROJECT / "docs" / "engines.md").read_text(encoding="utf-8")
_PROGRAM = re.findall(r"^```python\n(.*?)^```\n", _PAGE, re.MULTILINE | re.DOTALL)[0]


def _program() -> Any:
    module = ModuleType("program_of_the_page")
    exec(compile(_PROGRAM, "docs/engines.md", "exec"), vars(module))
    return module


class Client:
    """One client of a file."""

    engine: type[QueueEngine] = _program().SQLiteEngine

    def __init__(self, address: str, queues: Mapping[str, int]) -> None:
        self._address = address
        self._queues = queues
        self._engines: list[Any] = []

    def queue(self, name: str) -> QueueEngine:
        """A queue of the file."""
        make: Any = self.engine
        self._engines.append(make(self._address, name, self._queues[name]))
        engine: QueueEngine = self._engines[-1]
        return engine

    async def aclose(self) -> None:
        """Close the file."""
        for engine in self._engines:
            await engine.close()

    def lose(self) -> None:
        """Let the time of all leases be over."""
        for engine in self._engines:
            engine._run(engine._sql, "UPDATE items SET until = 0 WHERE lease IS NOT NULL")
