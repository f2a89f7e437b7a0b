"""The host's process, as its clients meet it."""
