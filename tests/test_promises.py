"""What docs/guarantees.md says of each engine is what the engine promises."""

from __future__ import annotations

from dataclasses import fields

import pytest

from aiomanager.engines.base import Promises
from aiomanager.engines.memory import MemoryEngine
from tests import promises
from tests.support.programs import PROJECT

pytestmark = pytest.mark.every_python


def test_the_table_is_what_the_code_says():
    """`python -m tests.promises` writes it anew."""
    page = promises.PAGE.read_text(encoding="utf-8")
    assert page.count(promises.BEGIN) == page.count(promises.END) == 1
    assert promises.page_anew(page) == page, "write it anew: python -m tests.promises"


def test_another_promise_is_another_table(monkeypatch):
    """It is made of what the engines say, and of nothing else."""
    before = promises.table()
    monkeypatch.setattr(MemoryEngine, "promises", Promises())
    after = promises.table()
    assert before != after
    assert "| never |" in after.splitlines()[4]


def test_each_promise_has_a_row():
    """Also one that is new, and one on the page for those who write engines."""
    names = {field.name for field in fields(Promises)}
    assert promises.ROWS.keys() == names
    page = (PROJECT / "docs" / "engines.md").read_text(encoding="utf-8")
    assert [name for name in names if f"\n| `{name}` | " not in page] == []
