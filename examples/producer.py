"""Puts ten tasks in the queue of server.py.

Shows:   `connect` with a wait for a server that is still starting, `put`
Needs:   aiomanager; server.py, and its authkey in $AIOMANAGER_AUTHKEY
Run:     python producer.py [PORT]
Expect:  "Producer: Putting task 0 into the queue." up to 9
"""

from __future__ import annotations

import asyncio
import sys

import aiomanager

PORT = int(sys.argv[1]) if len(sys.argv) > 1 else 50000


async def main() -> None:
    print("Producer: Connecting to server...")
    async with aiomanager.connect(("127.0.0.1", PORT), wait=10) as manager:
        task_queue = manager.queue("get_task_queue")
        print("Producer: Connected.")
        for number in range(10):
            print(f"Producer: Putting task {number} into the queue.", flush=True)
            await task_queue.put(f"Task {number}")
            await asyncio.sleep(0.1)
    print("Producer: All tasks sent. Shutting down.")


asyncio.run(main())
