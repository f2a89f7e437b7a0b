"""Connections to a host, and what is said over them."""
