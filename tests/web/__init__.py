"""The web example, in a real server and a real browser."""
