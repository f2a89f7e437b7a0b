"""Connections to hosts."""
