"""What the package shows: its names, and those of the objects that users hold."""

from __future__ import annotations

import pickle
import re
import tomllib
from typing import get_args, get_origin

import pytest

import aiomanager
from aiomanager import AsyncQueue, DeadLetter, Delivery
from tests.support.programs import PROJECT

pytestmark = [pytest.mark.anyio, pytest.mark.every_python]

OF_A_QUEUE = """
    put put_nowait put_many get get_nowait get_many task_done join qsize empty full maxsize
    shutdown deliveries get_deliveries statistics call aclose name sentinel prefetch
"""
OF_A_DELIVERY = "item headers attempt redelivered settled data ack nack move"


def public(value: object) -> set[str]:
    """The names without an underscore."""
    return {name for name in dir(value) if not name.startswith("_")}


async def test_names_of_a_queue_and_of_its_deliveries():
    """They are those of the documentation, and nothing that the package needs for itself."""
    async with aiomanager.connect("memory://") as manager:
        queue = manager.queue("jobs")
        assert public(queue) == set(OF_A_QUEUE.split())
        await queue.put("item")
        async for delivery in queue.deliveries():
            assert public(delivery) == set(OF_A_DELIVERY.split())
            await delivery.ack()
            break
        for iteration in (aiter(queue), queue.deliveries()):
            assert public(iteration) == set()


@pytest.mark.parametrize("name", aiomanager.__all__)
def test_public_names(name):
    """All are there, and `from aiomanager import *` brings them."""
    assert hasattr(aiomanager, name)


def test_version():
    """It is the one that the distribution is built with."""
    with (PROJECT / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)
    assert project["project"]["dynamic"] == ["version"]
    assert project["tool"]["hatch"]["version"]["path"] == "aiomanager/__init__.py"
    assert re.fullmatch(r"\d+\.\d+\.\d+", aiomanager.__version__)


def test_extras_are_for_the_package_itself():
    """Each is what the part of its name imports, and nothing that only an example needs."""
    with (PROJECT / "pyproject.toml").open("rb") as file:
        extras = tomllib.load(file)["project"]["optional-dependencies"]
    for extra, requirements in extras.items():
        modules = sorted((PROJECT / "aiomanager" / extra).rglob("*.py"))
        source = "".join(path.read_text(encoding="utf-8") for path in modules)
        for requirement in requirements:
            (name,) = re.findall(r"^\w+", requirement)
            assert re.search(rf"^ *(from|import) {name}\b", source, re.MULTILINE), requirement


def test_types_of_items_are_for_checkers_alone():
    """A queue of jobs is a queue; a second type, of a sentinel, may be left out or given."""
    for alias in (AsyncQueue[int], AsyncQueue[int, None], Delivery[int], DeadLetter[int]):
        assert get_args(alias)[0] is int
    assert get_origin(AsyncQueue[int]) is AsyncQueue
    letter = DeadLetter[int](b"", "gone", 3, "jobs")
    assert pickle.loads(pickle.dumps(letter)) == letter
