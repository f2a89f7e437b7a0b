"""What else stands at a stock host where a queue is expected: objects whose `put` and `get` take
neither `block` nor `timeout`, and items that nobody here can unpickle."""

from __future__ import annotations

import re
from collections import OrderedDict

from ..._ground.errors import ConfigurationError
from ..._transport.base import Conversation
from ..._wire.messages import dump
from ..._wire.replies import is_value, load_queue_reply
from .leftovers import Errand, StockReceived, Target

# How often an item is tried here until it goes to the end of the queue.
TRIED = 2
# Seconds until it does, which double each time.
FIRST_DELAY = 0.05
LONGEST_DELAY = 5.0
# How many such items are remembered.
REMEMBERED = 1024

# How Python says that a function has not even begun, as it takes fewer arguments.
_TOO_MANY = re.compile(r"takes (no|\d+|from \d+ to \d+) (positional )?arguments?\b.*\bgiven")
# How it names the first of the arguments that a function does not know.
_NOT_TAKEN = re.compile(
    r"argument '(block|timeout)'|'(block|timeout)' is an invalid|no keyword arg"
)


def learn_to_put(target: Target, error: TypeError) -> Conversation[bool]:
    """Find out whether an error of `put` means that it takes an item and nothing else. It may as
    well come from inside, after the item was put: so its text alone is not enough."""
    target.plain_put = yield from _takes_nothing(target, "put", error)
    return target.plain_put


def learn_to_get(target: Target, error: TypeError) -> Conversation[bool]:
    """Find out whether an error of `get` means that it takes no arguments.

    Raises:
        ConfigurationError: nor does the object tell whether anything is there, so that a call may
            wait at the host for ever, and take an item for somebody who has left long ago.
    """
    plain = yield from _takes_nothing(target, "get", error)
    if plain and "empty" not in target.methods:
        raise ConfigurationError(
            "get() of this queue takes neither block nor timeout, and it has no empty(): what "
            "waits there cannot be given up. Register a queue.Queue, or an object with "
            "get(block, timeout)"
        ) from error
    target.plain_get = plain
    return plain


def _takes_nothing(target: Target, method: str, error: TypeError) -> Conversation[bool]:
    if not _TOO_MANY.search(str(error)):
        return False
    try:
        # With an argument that no function knows, none does anything.
        yield from target.call(method, block=False, timeout=0, aiomanager_asks=None)
    except TypeError as exc:
        return _NOT_TAKEN.search(str(exc)) is not None
    except Exception:
        return False
    return False


def get_what_is_there(target: Target, errand: Errand, count: int) -> Conversation[None]:
    """Get up to `count` items with a `get` that waits without end, and so only where there is
    something. Another client may be quicker: then it waits."""
    while len(errand.received) < count and not errand.left:
        if (yield from target.call("empty")):
            return
        reply = yield dump((target.ident, "get", (), {}))
        if not is_value(reply):
            load_queue_reply(reply)
        errand.received.append(StockReceived(target, reply))


def explained(error: Exception) -> Exception:
    """An error of a call, or a clearer one."""
    if "'coroutine' object" in str(error):
        clearer = ConfigurationError(
            "put() of this queue is a coroutine function, as that of an asyncio.Queue, which a "
            "manager cannot call: register a queue.Queue instead"
        )
        clearer.__cause__ = error
        return clearer
    return error


class Undecoded:
    """How often each item has come here that this process cannot unpickle. Another process may be
    able to, so it goes back; but not so soon each time that nothing else would happen."""

    def __init__(self) -> None:
        self._attempts: OrderedDict[int, int] = OrderedDict()  # by a hash of its bytes

    def attempts(self, received: StockReceived) -> int:
        """How often an item that has come was here before."""
        return self._attempts.get(hash(bytes(received.data)), 0) if self._attempts else 0

    def wait(self, received: StockReceived) -> float | None:
        """Count one attempt; the seconds after which the item is to go to the end of the queue,
        or None where it is to be tried here once more."""
        key = hash(bytes(received.data))
        attempts = self._attempts.pop(key, 0) + 1
        self._attempts[key] = attempts
        if len(self._attempts) > REMEMBERED:
            self._attempts.popitem(last=False)
        if attempts < TRIED:
            return None
        return min(FIRST_DELAY * 2.0 ** min(attempts - TRIED, 60), LONGEST_DELAY)

    def forget(self, received: StockReceived) -> None:
        """An item is done."""
        if self._attempts:
            self._attempts.pop(hash(bytes(received.data)), None)
