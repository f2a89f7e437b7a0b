"""Takes tasks from the queue of server.py, until none has come for two seconds.

Shows:   `get` with a timeout, `QueueEmpty`, `task_done`
Needs:   aiomanager; server.py, and its authkey in $AIOMANAGER_AUTHKEY
Run:     python consumer.py [PORT]
Expect:  "Consumer: Got Task 0. Processing..." up to 9

What `get` returns is this program's: if it is killed now, the task is gone. quickstart.py and
pipeline.py leave a task with the queue until it is done.
"""

from __future__ import annotations

import asyncio
import sys

import aiomanager

PORT = int(sys.argv[1]) if len(sys.argv) > 1 else 50000


async def main() -> None:
    print("Consumer: Connecting to server...")
    async with aiomanager.connect(("127.0.0.1", PORT), wait=10) as manager:
        task_queue = manager.queue("get_task_queue")
        print("Consumer: Connected.")
        while True:
            try:
                task = await task_queue.get(timeout=2)
            except aiomanager.QueueEmpty:
                print("Consumer: Queue is empty. Shutting down.")
                break
            print(f"Consumer: Got {task}. Processing...", flush=True)
            await asyncio.sleep(0.1)  # other tasks of this program run meanwhile
            await task_queue.task_done()


asyncio.run(main())
