"""The search for other Pythons."""

from __future__ import annotations

import sys

import pytest

from tests.support import pythons

pytestmark = pytest.mark.every_python


def test_finds_the_one_that_runs():
    """This one is among them."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert pythons.installed()[version] == sys.executable


def test_skips_what_does_not_run(monkeypatch, tmp_path):
    """A shim of pyenv for a version that is not selected fails, and is passed over."""
    for version in pythons.SUPPORTED:
        shim = tmp_path / f"python{version}"
        shim.write_text("#!/bin/sh\nexit 127\n")
        shim.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "gone"))
    assert pythons.installed() == {}
