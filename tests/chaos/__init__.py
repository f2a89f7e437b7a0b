"""Queues under fire: programs that are killed, stopped and cut off, and a checker of their logs.

`programs` are what runs, each in a process that logs what it does; `faults` injects; `checker`
reads the logs of one run and says what was lost, doubled or left hanging. The same runs against a
stock host, and against our own with a seeded defect, have to fail.

    python -m tests.chaos --long       the long run, whose table is RESULTS.md
"""
