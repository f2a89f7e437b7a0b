"""The programs under fire, by name. Each takes its log and its options, and returns at its end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.chaos.logs import Log
from tests.chaos.programs import (
    cancels,
    consumers,
    crowds,
    forks,
    hosts,
    naive,
    owners,
    parents,
    producers,
    stock,
)

PROGRAMS: dict[str, Callable[[Log, dict[str, Any]], int | None]] = {
    "canceller": cancels.canceller,
    "interrupted": cancels.interrupted,
    "host": hosts.host,
    "stock host": hosts.stock_host,
    "producer": producers.producer,
    "consumer": consumers.consumer,
    "owner": owners.owner,
    "crowd": crowds.crowd,
    "stock crowd": crowds.stock_crowd,
    "forker": forks.forker,
    "parent": parents.parent,
    "joiner": consumers.joiner,
    "stock canceller": naive.canceller,
    "stock interrupted": naive.interrupted,
    "stock producer": stock.producer,
    "stock consumer": stock.consumer,
}
