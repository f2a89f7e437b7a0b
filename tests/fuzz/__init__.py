"""What a host and a client make of bytes that nobody sane would send: no crash, no hang, no growth.

`targets` says what must hold of any bytes; test_targets.py tries it with Hypothesis, and `python -m
tests.fuzz` with as many executions as it is told, by atheris where that is installed.
"""

from __future__ import annotations
