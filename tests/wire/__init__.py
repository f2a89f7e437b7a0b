"""Contract: the manager protocol, cut anywhere, and against the standard library's own functions.

Nothing here opens a socket of ours: the protocol does no I/O, so the tests feed it.
"""
