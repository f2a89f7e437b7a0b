"""Locks of a stock manager through `wrap`: who has them, and that nobody keeps one who has left."""
