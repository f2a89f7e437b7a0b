"""Takes tasks from the queue of server.py, with the standard library alone.

Shows:   a script that knows nothing of aiomanager, at a host of aiomanager's
Needs:   nothing; server.py, and its authkey in $AIOMANAGER_AUTHKEY
Run:     python blocking_consumer.py [PORT]
Expect:  the same as consumer.py
"""

from __future__ import annotations

import os
import queue
import sys
import time
from multiprocessing.managers import BaseManager

PORT = int(sys.argv[1]) if len(sys.argv) > 1 else 50000


class QueueManager(BaseManager):
    """Knows the queue by its name."""


QueueManager.register("get_task_queue")

if __name__ == "__main__":
    print("Consumer: Connecting to server...")
    manager = QueueManager(("127.0.0.1", PORT), os.environ["AIOMANAGER_AUTHKEY"].encode())
    manager.connect()
    task_queue = manager.get_task_queue()  # type: ignore[attr-defined]
    print("Consumer: Connected.")
    while True:
        try:
            task = task_queue.get(timeout=2)
        except queue.Empty:
            print("Consumer: Queue is empty. Shutting down.")
            break
        print(f"Consumer: Got {task}. Processing...", flush=True)
        time.sleep(0.1)
        task_queue.task_done()
