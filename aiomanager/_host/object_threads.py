"""Calls of objects other than queues: on a thread of their connection's own.

The thread runs the standard library's own `Server.serve_client`, so that dictionaries, locks,
pools and a user's classes behave as at any manager: what is owned by a connection (an RLock, say)
is owned by that thread. It starts with the first call that needs it and ends with the connection.
"""

from __future__ import annotations

import pickle
import queue
import threading
from collections.abc import Callable
from multiprocessing.reduction import ForkingPickler
from typing import Any

from .._ground.buffers import Buffer
from .._wire.items import STOCK_PROTOCOL
from .._wire.restricted_pickle import NAME_LIMIT, check_memo

Request = tuple[Any, str, tuple[Any, ...], dict[str, Any]]


class Worker:
    """The connection object that `serve_client` sees: messages come from the reactor and replies
    go to it.

    Args:
        serve: `Server.serve_client`.
        send: passes a reply to the reactor; callable from any thread.
        divert: is shown each request; True where it was for a queue or the server itself, and has
            been passed on.
        on_end: called on the thread when it ends.

    Raises:
        RuntimeError: there is no thread to be had.
    """

    def __init__(
        self,
        name: str,
        serve: Callable[[Any], None],
        send: Callable[[Buffer], None],
        divert: Callable[[Request], bool],
        on_end: Callable[[], None],
    ) -> None:
        self._messages: queue.SimpleQueue[Buffer | None] = queue.SimpleQueue()
        self._serve = serve
        self._send = send
        self._divert = divert
        self._on_end = on_end
        # A call of a user's object may never return; it must not keep the host from ending.
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def submit(self, message: Buffer) -> None:
        """Run one request; callable from the reactor, returns at once."""
        self._messages.put(message)

    def end(self) -> None:
        """End the thread after the call that it is in."""
        self._messages.put(None)

    def recv(self) -> Request:
        """The next request for an object; for `serve_client`."""
        while True:
            message = self._messages.get()
            if message is None:
                raise EOFError
            try:
                request = self._load(message)
            except EOFError as exc:
                # To `serve_client` this would be the end of the connection.
                raise pickle.UnpicklingError(str(exc)) from exc
            if not self._divert(request):
                return request

    @staticmethod
    def _load(message: Buffer) -> Request:
        check_memo(message)
        request = pickle.loads(message)
        if not isinstance(request, tuple) or len(request) != 4:
            raise TypeError("a request is a tuple of an object's id, a method and its arguments")
        ident, method, args, kwds = request
        # Before anything is hashed or printed: that of a few bytes may take for ever, if they are
        # tuples of tuples that share one another.
        if not (ident is None or type(ident) is str) or type(method) is not str:
            raise TypeError("the id of an object, and the name of a method, are text")
        if max(len(ident or ""), len(method)) > NAME_LIMIT:
            raise ValueError(f"an id and a method have up to {NAME_LIMIT} characters")
        if not isinstance(args, (tuple, list)) or type(kwds) is not dict:
            raise TypeError("the arguments of a request are a tuple and a dict")
        return ident, method, tuple(args), kwds

    def send(self, reply: object) -> None:
        """Pass a reply on; for `serve_client`, which sends an error where this cannot pickle."""
        self._send(bytes(ForkingPickler.dumps(reply, STOCK_PROTOCOL)))

    def close(self) -> None:
        """For `serve_client`, which closes what it cannot send to."""

    def _run(self) -> None:
        try:
            self._serve(self)
        except SystemExit:
            pass  # how `serve_client` ends
        finally:
            self._on_end()
