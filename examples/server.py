"""The server of a producer and a consumer that run in programs of their own.

Shows:   a host at a TCP address, for programs that connect to it
Needs:   aiomanager; an authkey in the environment, the same for all:
             export AIOMANAGER_AUTHKEY=$(aiomanager keygen)
Run:     python server.py [PORT]
         then, in other terminals, a producer and a consumer, in any combination:
         producer.py or blocking_producer.py, consumer.py or blocking_consumer.py
Expect:  "Server started on tcp://127.0.0.1:50000. ...", and at Ctrl-C "Server shutting down."

`aiomanager serve -q get_task_queue 127.0.0.1:50000` does the same. To reach it from other
machines, give an address of this one in place of 127.0.0.1, inside a private network or a tunnel:
the key keeps strangers out, but what travels is not encrypted.
"""

from __future__ import annotations

import asyncio
import os
import sys

import aiomanager

PORT = int(sys.argv[1]) if len(sys.argv) > 1 else 50000


async def main() -> None:
    # The name of the queue is what a program that knows only BaseManager registers and calls.
    queues = {"get_task_queue": 0}
    authkey = os.environ.get("AIOMANAGER_AUTHKEY")
    if authkey is None:
        sys.exit(
            "no authkey: export AIOMANAGER_AUTHKEY=$(aiomanager keygen), here and for the others"
        )
    async with aiomanager.host(queues, address=("127.0.0.1", PORT), authkey=authkey) as manager:
        print(f"Server started on {manager.address}. Waiting for connections...", flush=True)
        await asyncio.Event().wait()


try:
    asyncio.run(main())
except KeyboardInterrupt:
    print("Server shutting down.")
