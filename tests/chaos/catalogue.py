"""All the faults, by their codes, in the order of their numbers."""

from __future__ import annotations

import re

from tests.chaos.faults import (
    Fault,
    cancels,
    endings,
    forks,
    hosts,
    joins,
    kills,
    limits,
    pauses,
    storms,
    strangers,
    versions,
    waits,
    wires,
)

_MODULES = (
    cancels, endings, forks, hosts, joins, kills, limits, pauses, storms, strangers, versions,
    waits, wires,
)  # fmt: skip


def _order(fault: Fault) -> tuple[str, int, str]:
    found = re.fullmatch(r"([A-Z])(\d+)(\w*)", fault.code)
    assert found is not None
    letter, number, rest = found.groups()
    return letter, int(number), rest


FAULTS: dict[str, Fault] = {
    fault.code: fault
    for fault in sorted((fault for module in _MODULES for fault in module.ALL), key=_order)
}
