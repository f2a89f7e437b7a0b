"""Counts the words of files in two steps, on two worker processes.

Shows:   `consume` with concurrency, retries and a dead-letter queue; a bounded queue between two
         steps; worker processes that end when the queues are shut down
Needs:   aiomanager
Run:     python pipeline.py [FILE...]        without files: those of Python's json package, and
                                             one that does not exist
Expect:  a line for each file with its number of words, and "gave up ... after 3 attempts"

    paths -> read -> texts -> count -> counts
               |
               +-> failed, after three attempts

A path is marked done when its text is in the next queue, so a worker that is killed loses nothing:
what it was working on goes to another.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

import aiomanager

QUEUES = {"paths": 0, "texts": 4, "counts": 0, "failed": 0}
WORKERS = 2


async def work(address: str) -> None:
    """One worker process; it finds the authkey in its environment."""
    async with aiomanager.connect(address) as manager:
        paths, texts, counts, failed = (manager.queue(name) for name in QUEUES)

        async def read(path: str) -> None:
            # Where this fails, the path is handed out again, to any worker.
            text = await asyncio.to_thread(Path(path).read_text, encoding="utf-8")
            await texts.put((path, text))  # waits while the next step is behind

        async def count(item: tuple[str, str]) -> None:
            path, text = item
            await counts.put((path, len(text.split())))

        await asyncio.gather(
            aiomanager.consume(
                paths, read, concurrency=4, retries=2, backoff=0.1, dead_letter=failed
            ),
            aiomanager.consume(texts, count, dead_letter=failed),
        )


async def main(files: list[str]) -> None:
    async with aiomanager.host(QUEUES) as manager:
        paths, texts, counts, failed = (manager.queue(name) for name in QUEUES)
        environment = os.environ | {"AIOMANAGER_AUTHKEY": manager.authkey.decode()}
        workers = [
            await asyncio.create_subprocess_exec(
                sys.executable, __file__, "--worker", manager.address, env=environment
            )
            for _ in range(WORKERS)
        ]
        await paths.put_many(files)
        await paths.join()
        await texts.join()
        for queue in (paths, texts, counts, failed):
            await queue.shutdown()  # ends every worker, and the two loops below
        for worker in workers:
            await worker.wait()
        async for path, words in counts:
            print(f"{words:6} words in {Path(path).name}")
        async for letter in failed:
            print(f"gave up {letter.item} after {letter.attempts} attempts: {letter.reason}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        asyncio.run(work(sys.argv[2]))
    else:
        folder = Path(json.__file__).parent
        asyncio.run(main(sys.argv[1:] or [*map(str, folder.glob("*.py")), "no-such-file.txt"]))
