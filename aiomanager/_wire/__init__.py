"""The bytes of the protocol: no socket, no thread, no event loop."""
