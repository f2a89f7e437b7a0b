"""CPython's own tests of managers, unchanged, on what `wrap` makes of the managers' objects.

`cpython_runner` runs them. $DIFFERENTIAL_FACE is the face of the objects (see `world`), and
$DIFFERENTIAL_HOST the kind of host: a child has to make the same classes of this module.
"""

from __future__ import annotations

import importlib
import itertools
import os
import unittest
from multiprocessing import process
from typing import Any, ClassVar

from tests.differential import hosts, loops
from tests.differential.world import Face

FACE = Face(os.environ.get("DIFFERENTIAL_FACE", "standard"))
HOST = os.environ.get("DIFFERENTIAL_HOST", "stock")

suite: Any = importlib.import_module("test._test_multiprocessing")

# The tests that are not for this, and why.
NOT_APPLICABLE = {
    "Event.test_repr": "what a wrapped object is called is not what its proxy is called",
    "RemoteManager.test_remote": "shows what xmlrpclib does; wrap() speaks pickle, and says so",
}

# Hosted queues of the sizes that the tests ask for.
SIZES = (0, 1, 2, 6)
QUEUES = {f"of_{size}_{number}": size for size in SIZES for number in range(20)}


class Faced:
    """A manager that gives what it makes the face."""

    def __init__(self, manager: Any) -> None:
        self._manager = manager

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._manager, name)
        if name in self._manager._registry:
            return lambda *args, **kwds: FACE.over(found(*args, **kwds))
        return found


class Hosting(Faced):
    """A host of ours, whose queues are its own."""

    def __init__(self) -> None:
        key = bytes(process.current_process().authkey)
        super().__init__(hosts.OurHost(None, key, queues=QUEUES))
        self._manager.start()
        self._numbers = {size: itertools.count() for size in SIZES}

    def Queue(self, maxsize: int = 0) -> Any:  # noqa: N802 - the standard library's name
        """A hosted queue."""
        name = f"of_{maxsize}_{next(self._numbers[maxsize])}"
        return FACE.over(self._manager.get_queue(name))

    JoinableQueue = Queue


class Mixin(suite.ManagerMixin):  # type: ignore[misc]
    """The managers of the tests."""

    manager: ClassVar[Any]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        if HOST == "ours":
            cls.manager.shutdown()
            cls.manager.join()
            cls.manager = Hosting()
        else:
            cls.manager = Faced(cls.manager)

    @classmethod
    def tearDownClass(cls) -> None:
        super().tearDownClass()
        loops.stop_all()

    def common(self, manager: Any) -> None:
        """What the tests of one's own managers share."""
        super().common(Faced(manager))


class RestartedManager(suite.QueueManager):  # type: ignore[misc]
    """What is restarted, with the face."""

    def get_queue(self) -> Any:
        return FACE.over(super().get_queue())


# Where a child imports this module, it finds the same.
suite.SERIALIZER = "pickle"
suite.QueueManager = RestartedManager


def _tests() -> dict[str, type[unittest.TestCase]]:
    """The classes for managers, by their short names."""
    found = {}
    for name, base in vars(suite).items():
        if not isinstance(base, type) or not issubclass(base, suite.BaseTestCase):
            continue
        short = name.removeprefix("_Test")
        if base is suite.BaseTestCase or "manager" not in getattr(base, "ALLOWED_TYPES", ()):
            continue
        made: Any = type(short, (base, Mixin, unittest.TestCase), {"__module__": __name__})
        for not_applicable, reason in NOT_APPLICABLE.items():
            kind, _, test = not_applicable.partition(".")
            if kind == short:
                setattr(made, test, unittest.skip(reason)(lambda self: None))
        found[short] = made
    return found


TESTS = _tests()
globals().update(TESTS)


def names() -> dict[str, list[str]]:
    """The names of the tests of each class, those that are not applicable left out."""
    load = unittest.defaultTestLoader.getTestCaseNames
    return {
        short: [test for test in load(kind) if f"{short}.{test}" not in NOT_APPLICABLE]
        for short, kind in TESTS.items()
    }
