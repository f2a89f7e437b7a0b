"""A producer and a consumer share a queue that another process hosts.

Shows:   `host()`, `put`, `async for`, `join`
Needs:   aiomanager
Run:     python quickstart.py
Expect:  five jobs, then "all jobs are done"
"""

from __future__ import annotations

import asyncio

import aiomanager


async def work(jobs: aiomanager.AsyncQueue[int]) -> None:
    """Do jobs until a None comes. A job counts as done when the loop asks for the next."""
    async for job in jobs:
        print(f"job {job}: {job * job}")


async def main() -> None:
    # A host process of this program's own. It ends with the block, or with this process.
    async with aiomanager.host({"jobs": 100}) as manager:
        jobs = manager.queue("jobs")
        worker = asyncio.create_task(work(jobs))
        for number in range(5):
            await jobs.put(number)
        await jobs.join()
        print("all jobs are done")
        await jobs.put(None)
        await worker


asyncio.run(main())
