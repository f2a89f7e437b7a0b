"""The worker of web_app.py, which starts it: finds the prime factors of numbers.

Shows:   `consume` in a worker process that ends at SIGTERM with what it has begun
Needs:   aiomanager; the host of web_app.py, and its authkey in $AIOMANAGER_AUTHKEY
Run:     python web_worker.py ADDRESS        any number of them
Expect:  nothing; web_app.py shows the results
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator

import aiomanager


def factors(number: int) -> Iterator[int]:
    """The prime factors, smallest first."""
    divisor = 2
    while divisor * divisor <= number:
        while number % divisor == 0:
            yield divisor
            number //= divisor
        divisor += 1 + divisor % 2
    if number > 1:
        yield number


async def main() -> None:
    async with aiomanager.connect(sys.argv[1]) as manager:
        results = manager.queue("results")

        async def work(job: tuple[int, int]) -> None:
            job_id, number = job
            found = factors(number)
            for index in range(1000):
                # The search is in a thread, so that this worker goes on talking to its host.
                factor = await asyncio.to_thread(next, found, None)
                await results.put((job_id, index, {"factor": factor, "done": factor is None}))
                if factor is None:
                    return

        # The job is marked done when `work` returns. If this process is killed before that,
        # another worker gets the job. Several at once, so that small numbers pass large ones.
        await aiomanager.consume(manager.queue("jobs"), work, concurrency=4, handle_signals=True)


asyncio.run(main())
