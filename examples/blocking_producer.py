"""Puts ten tasks in the queue of server.py, with the standard library alone.

Shows:   a script that knows nothing of aiomanager, at a host of aiomanager's
Needs:   nothing; server.py, and its authkey in $AIOMANAGER_AUTHKEY
Run:     python blocking_producer.py [PORT]
Expect:  the same as producer.py
"""

from __future__ import annotations

import os
import sys
import time
from multiprocessing.managers import BaseManager

PORT = int(sys.argv[1]) if len(sys.argv) > 1 else 50000


class QueueManager(BaseManager):
    """Knows the queue by its name."""


QueueManager.register("get_task_queue")

if __name__ == "__main__":
    print("Producer: Connecting to server...")
    manager = QueueManager(("127.0.0.1", PORT), os.environ["AIOMANAGER_AUTHKEY"].encode())
    manager.connect()
    task_queue = manager.get_task_queue()  # type: ignore[attr-defined]
    print("Producer: Connected.")
    for number in range(10):
        print(f"Producer: Putting task {number} into the queue.", flush=True)
        task_queue.put(f"Task {number}")
        time.sleep(0.1)
    print("Producer: All tasks sent. Shutting down.")
