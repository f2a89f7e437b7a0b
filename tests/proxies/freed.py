"""When the objects of a manager are gone."""

from __future__ import annotations

import gc
from typing import Any

from tests.support.waiting import wait_until


async def all_freed(manager: Any, before: int) -> None:
    """Wait until the manager has no more objects than before."""

    def freed() -> bool:
        gc.collect()
        return bool(manager._number_of_objects() <= before)

    await wait_until(freed, description="the objects are freed")
