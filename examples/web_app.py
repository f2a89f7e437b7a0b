"""A web app that takes jobs and streams their results, with the work in another process.

Shows:   a host and a worker process in the lifespan of a FastAPI app; a full queue as 503; results
         as server-sent events; a worker that is killed and replaced without losing its job
Needs:   aiomanager, fastapi, uvicorn
Run:     python web_app.py [PORT]            or: uvicorn web_app:app
         then open http://127.0.0.1:8000, or:
         curl -d '{"number": 360}' -H 'Content-Type: application/json' http://127.0.0.1:8000/jobs
         curl -N http://127.0.0.1:8000/jobs/1/events
Expect:  the prime factors of the number, each as soon as web_worker.py has found it

Each process of the web server has a host and a worker of its own. To share one queue among
several, run `aiomanager serve`, connect to it in the lifespan, and give each a queue of results.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import uvicorn
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import FileResponse, StreamingResponse
from pydantic import BaseModel, Field

import aiomanager

FOLDER = Path(__file__).parent
WAITING_JOBS = 100
KEPT_JOBS = 1000


class NewJob(BaseModel):
    """What a client asks for."""

    number: int = Field(ge=2, le=10**15)


class Job:
    """The results of one job, for any number of readers."""

    def __init__(self) -> None:
        self.results: list[dict[str, Any]] = []
        self._changed = asyncio.Event()

    def add(self, index: int, result: dict[str, Any]) -> None:
        """Append a result, unless it is known: after a worker's death another begins anew."""
        if index == len(self.results):
            self.results.append(result)
            self._changed.set()
            self._changed = asyncio.Event()

    async def follow(self, start: int) -> AsyncIterator[tuple[int, dict[str, Any]]]:
        """Results from a position on, until the last."""
        while True:
            while start < len(self.results):
                yield start, self.results[start]
                start += 1
            if self.results and self.results[-1]["done"]:
                return
            await self._changed.wait()


class Board:
    """The queues, and what came of each job."""

    def __init__(self, manager: aiomanager.AsyncManager) -> None:
        self.queue: aiomanager.AsyncQueue[tuple[int, int]] = manager.queue("jobs")
        self._results = manager.queue("results")
        self._manager = manager
        self._jobs: dict[int, Job] = {}
        self._last = 0

    async def submit(self, number: int) -> int:
        """Queue a job and return its id; raises `QueueFull` where too many wait."""
        self._last += 1
        job_id = self._last
        self._jobs[job_id] = Job()
        try:
            await self.queue.put_nowait((job_id, number))
        except aiomanager.QueueFull:
            del self._jobs[job_id]
            raise
        if len(self._jobs) > KEPT_JOBS:
            del self._jobs[min(self._jobs)]
        return job_id

    def job(self, job_id: int) -> Job | None:
        """A job that is still known."""
        return self._jobs.get(job_id)

    async def collect(self) -> None:
        """Give results to their jobs, until the queue is shut down."""
        async for job_id, index, result in self._results:
            job = self._jobs.get(job_id)
            if job is not None:
                job.add(index, result)

    async def keep_working(self) -> None:
        """Run a worker, and another if it dies."""
        environment = os.environ | {"AIOMANAGER_AUTHKEY": self._manager.authkey.decode()}
        while True:
            worker = await asyncio.create_subprocess_exec(
                sys.executable,
                str(FOLDER / "web_worker.py"),
                self._manager.address,
                env=environment,
            )
            try:
                await worker.wait()
            except asyncio.CancelledError:
                with suppress(ProcessLookupError):
                    worker.send_signal(signal.SIGTERM)
                await worker.wait()
                raise
            await asyncio.sleep(0.1)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
    """Have a host, a worker and a collector as long as the app runs."""
    async with aiomanager.host({"jobs": WAITING_JOBS, "results": 0}) as manager:
        app.state.board = board = Board(manager)
        tasks = [asyncio.create_task(board.collect()), asyncio.create_task(board.keep_working())]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)


def get_board(request: Request) -> Board:
    """The board of the app that serves this request."""
    board: Board = request.app.state.board
    return board


BoardOfApp = Annotated[Board, Depends(get_board)]
app = FastAPI(title="Prime factors", lifespan=lifespan)


@app.get("/", include_in_schema=False)
async def page() -> FileResponse:
    """A page that uses the two routes below."""
    return FileResponse(FOLDER / "web_page.html")


@app.post("/jobs", status_code=202)
async def submit(job: NewJob, board: BoardOfApp) -> dict[str, int]:
    """Queue a job."""
    try:
        return {"id": await board.submit(job.number)}
    except aiomanager.QueueFull:
        raise HTTPException(503, "too many jobs wait; try again later") from None


@app.get("/jobs/{job_id}/events")
async def events(job_id: int, board: BoardOfApp, request: Request) -> StreamingResponse:
    """The results of a job as server-sent events, from the first, or from where a browser that
    lost its connection left off."""
    job = board.job(job_id)
    if job is None:
        raise HTTPException(404, "no such job")
    last = request.headers.get("last-event-id", "")
    start = int(last) + 1 if last.isdecimal() else 0

    async def stream() -> AsyncIterator[str]:
        async for index, result in job.follow(start):
            yield f"id: {index}\ndata: {json.dumps(result)}\n\n"

    return StreamingResponse(
        stream(), media_type="text/event-stream", headers={"Cache-Control": "no-store"}
    )


@app.get("/statistics")
async def statistics(board: BoardOfApp) -> dict[str, int | bool | None]:
    """The queue of jobs, as its host counts."""
    return asdict(await board.queue.statistics())


if __name__ == "__main__":
    uvicorn.run(
        app,
        port=int(sys.argv[1]) if len(sys.argv) > 1 else 8000,
        # A browser that waits for a result must not keep the server from ending.
        timeout_graceful_shutdown=2,
    )
