"""What `AsyncQueue` promises, on every kind of host, over both transports, on every event loop."""
