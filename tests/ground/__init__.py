"""Addresses, keys and errors."""
