"""`connect` and `host`."""
