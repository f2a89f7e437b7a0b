"""How to talk to a host, as users say it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from .._ground.errors import ConfigurationError

Lane = Literal["stream", "thread"]


@dataclass(frozen=True, kw_only=True)
class ConnectOptions:
    """How to talk to a host; `connect` says what each means."""

    wait: float = 0.0
    connect_timeout: float = 5.0
    call_timeout: float = 30.0
    reconnect: float = 30.0
    on_reconnect: Callable[[], None] | None = None
    wait_slice: float = 0.5
    lane: Lane | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        if self.lane not in (None, "stream", "thread"):
            raise ConfigurationError(f"lane is {self.lane!r}; give 'stream' or 'thread'")
        for name in ("wait", "connect_timeout", "call_timeout", "reconnect", "wait_slice"):
            if not getattr(self, name) >= 0:
                raise ConfigurationError(
                    f"{name} is {getattr(self, name)!r}; give seconds from 0 on"
                )
