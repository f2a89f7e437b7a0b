"""What `AsyncQueue` promises, on every kind of host, over both lanes, on every event loop."""
