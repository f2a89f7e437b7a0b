"""The server of a producer and a consumer, with the standard library alone.

Shows:   programs of aiomanager at a host that knows nothing of it: nothing there has to change
Needs:   nothing; an authkey in the environment, the same for all
Run:     python blocking_server.py [PORT]
         then producer.py or blocking_producer.py, consumer.py or blocking_consumer.py
Expect:  the same as server.py

With this server, what a killed consumer was working on is lost; with server.py it need not be.
"""

from __future__ import annotations

import os
import queue
import sys
from multiprocessing.managers import BaseManager

PORT = int(sys.argv[1]) if len(sys.argv) > 1 else 50000

tasks: queue.Queue[str] = queue.Queue()


class QueueManager(BaseManager):
    """Has the queue under its name."""


QueueManager.register("get_task_queue", callable=lambda: tasks)

if __name__ == "__main__":
    manager = QueueManager(("127.0.0.1", PORT), os.environ["AIOMANAGER_AUTHKEY"].encode())
    server = manager.get_server()
    port = server.address[1]  # type: ignore[index]
    print(f"Server started on tcp://127.0.0.1:{port}. Waiting for connections...", flush=True)
    try:
        server.serve_forever()
    finally:
        print("Server shutting down.")
