"""`connect` and `host`: how a program comes to a manager."""
