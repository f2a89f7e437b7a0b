"""How to talk to a host, as users say it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from .._ground.errors import ConfigurationError

Transport = Literal["stream", "thread"]


@dataclass(frozen=True, kw_only=True)
class ConnectOptions:
    """How to talk to a host; `connect` says what each means."""

    wait: float = 0.0
    connect_timeout: float = 5.0
    call_timeout: float = 30.0
    reconnect: float = 30.0
    on_reconnect: Callable[[], None] | None = None
    wait_slice: float = 0.5
    transport: Transport | None = None
    queues: Mapping[str, int] | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        if self.transport not in (None, "stream", "thread"):
            raise ConfigurationError(f"transport is {self.transport!r}; give 'stream' or 'thread'")
        for name in ("wait", "connect_timeout", "call_timeout", "reconnect", "wait_slice"):
            if not getattr(self, name) >= 0:
                raise ConfigurationError(
                    f"{name} is {getattr(self, name)!r}; give seconds from 0 on"
                )
