"""The process that serves queues and objects: the standard library alone, no event loop."""
