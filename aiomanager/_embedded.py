"""What `host()` starts: a host that ends with its owner.

Its settings come as one line of JSON over standard input, so that the key stands on no command
line and in no environment; it answers with one line on standard output once it can be connected
to. It serves until its standard input ends, which also happens where the owner is killed. A
process that the owner forked may hold that pipe open for longer, so it looks for its parent too.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import sys
import threading

from ._errors import AioManagerError
from ._host import stopped_by_signals
from ._server import HostRegistry, HostSettings, QueueServer

PARENT_CHECK = 1.0  # seconds


def main() -> None:
    """Serve as the settings on standard input say."""
    # Ctrl-C reaches the whole group of processes; the owner decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = os.getppid()
    settings = json.loads(sys.stdin.buffer.readline())
    address = settings["address"]
    try:
        server = QueueServer(
            HostRegistry(
                {},
                HostSettings(queues=settings["queues"], lease_timeout=settings["lease_timeout"]),
            ),
            tuple(address) if isinstance(address, list) else address,
            base64.b64decode(settings["authkey"]),
            "pickle",
        )
    except AioManagerError as exc:
        answer({"error": str(exc)})
        return
    answer({"address": server.address})
    threading.Thread(target=stop_at_end_of_input, args=(server,), daemon=True).start()
    check_parent(server, parent)
    with stopped_by_signals(server):
        server.serve_forever()


def answer(message: dict[str, object]) -> None:
    """Tell the owner."""
    print(json.dumps(message), flush=True)  # noqa: T201 - its standard output is how it answers


def stop_at_end_of_input(server: QueueServer) -> None:
    """Wait for the owner to close the pipe, or to end."""
    # Not through the buffered reader: a thread that holds its lock would fail the interpreter's
    # exit.
    while os.read(sys.stdin.fileno(), 4096):
        pass
    server.stop()


def check_parent(server: QueueServer, parent: int) -> None:
    """Stop once this process has another parent: the owner is gone."""
    if os.getppid() != parent:
        server.stop()
    else:
        server.reactor.call_at(
            server.reactor.time() + PARENT_CHECK, lambda: check_parent(server, parent)
        )


if __name__ == "__main__":
    main()
