"""`python -m tests.walk`: the files that one put and one get pass through, at client and host.

Not read from the source but seen: a host of ours in a process of its own behind a Unix socket, a
client on asyncio, and a profiler in both. What happens once, like connecting, has happened before;
what a call leaves to do after it has returned, like saying that an item arrived, belongs to it.
test_walk.py keeps the walk short.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import subprocess
import sys
import tempfile
import textwrap
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import aiomanager
from tests.support.hosts import KEY

PROJECT = Path(__file__).parents[1]
PACKAGE = PROJECT / "aiomanager"

# A file, as in the package, and the functions in it: each in order of the first visit.
Visits = dict[str, list[str]]
# "put" or "get", then "client" or "host".
Walk = dict[str, dict[str, Visits]]

# A side that has done nothing for so long has nothing left to do for the call.
QUIET = 0.2
WARM_UP = 5


class Recorder:
    """Notes which functions of the package run in this process, in threads yet to be started too.

    Attributes:
        events: how many calls and returns there were so far.
    """

    def __init__(self) -> None:
        self.events = 0
        self._visits: Visits | None = None
        self._names: dict[str, str | None] = {}
        threading.setprofile(self._note)
        sys.setprofile(self._note)

    def begin(self) -> None:
        """Begin with an empty record."""
        self._visits = {}

    def end(self) -> Visits:
        """End it, and return it."""
        visits, self._visits = self._visits, None
        assert visits is not None
        return visits

    def _note(self, frame: FrameType, _event: str, _argument: object) -> None:
        # Any event, not only calls: a loop that was waiting in `select` is called once and for all.
        if self._visits is None:
            return
        name = self._name(frame.f_code.co_filename)
        if name is None:
            return
        self.events += 1
        functions = self._visits.setdefault(name, [])
        function = frame.f_code.co_qualname.partition(".<locals>")[0]
        if function not in functions:
            functions.append(function)

    def _name(self, filename: str) -> str | None:
        if filename not in self._names:
            inside = filename.startswith(f"{PACKAGE}/")
            self._names[filename] = filename[len(f"{PACKAGE}/") :] if inside else None
        return self._names[filename]


def serve(address: str) -> None:
    """Host a queue, with a recorder that a line of input begins and another one ends."""
    manager = aiomanager.QueueManager(address, KEY, queues={"jobs": 0})
    server = manager.get_server()
    recorder = Recorder()

    def obey() -> None:
        for line in sys.stdin:
            word = line.strip()
            if word == "begin":
                recorder.begin()
            print(json.dumps(recorder.end() if word == "end" else recorder.events), flush=True)
        server.stop()

    threading.Thread(target=obey, daemon=True).start()
    print(flush=True)
    server.serve_forever()


class Host:
    """The process in which `serve` runs."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def ask(self, word: str) -> Any:
        """Give its recorder a word, and return the answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{word}\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


@contextlib.contextmanager
def hosting(address: str) -> Iterator[Host]:
    """A process that hosts a queue and records."""
    command = [sys.executable, "-m", "tests.walk", "--serve", address]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=PROJECT, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield Host(process)
        finally:
            process.stdin.close()


async def walk(host: Host, address: str) -> Walk:
    """Put an item and get it, and return what was seen of that."""
    recorder = Recorder()
    found: Walk = {}

    async def record(call: Callable[[], Awaitable[object]]) -> dict[str, Visits]:
        host.ask("begin")
        recorder.begin()
        await call()
        before = None
        while before != (before := (recorder.events, host.ask("events"))):
            await asyncio.sleep(QUIET)
        return {"client": recorder.end(), "host": host.ask("end")}

    async with aiomanager.connect(address, KEY, transport="stream") as manager:
        jobs = manager.queue("jobs")
        for number in range(WARM_UP):
            await jobs.put(number)
            await jobs.get()
            await jobs.task_done()
        found["put"] = await record(lambda: jobs.put("an item"))
        found["get"] = await record(jobs.get)
        await jobs.task_done()
    return found


def show(found: Walk) -> Iterator[str]:
    """The walk as lines of text: the ways first, and a table of how long they are."""
    for direction, sides in found.items():
        for side, visits in sides.items():
            yield f"{direction}, at the {side}:"
            for number, (name, functions) in enumerate(visits.items(), 1):
                first, *more = textwrap.wrap(", ".join(functions), 64, break_long_words=False)
                yield f"{number:4}  {name:30}  {first}"
                yield from (f"{line:>{38 + len(line)}}" for line in more)
            yield ""
    yield "files    client    host"
    for direction, sides in found.items():
        yield f"{direction:5}{len(sides['client']):10}{len(sides['host']):8}"


def main() -> None:
    """Run what the arguments say."""
    parser = argparse.ArgumentParser("python -m tests.walk", description=__doc__)
    parser.add_argument("--json", action="store_true", help="for test_walk.py")
    parser.add_argument("--serve", metavar="ADDRESS", help="be the host")
    options = parser.parse_args()
    if options.serve is not None:
        serve(options.serve)
        return
    with tempfile.TemporaryDirectory() as folder:
        address = str(Path(folder, "host.sock"))
        with hosting(address) as host:
            found = asyncio.run(walk(host, address))
    print(json.dumps(found) if options.json else "\n".join(show(found)))


if __name__ == "__main__":
    main()
