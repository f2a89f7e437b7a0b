"""The library from its beginning, in tests that build on one another: read them by their numbers.

Each runs on asyncio, on uvloop and on trio, and with real host processes.
"""
