"""Queues at hosts that know nothing but the standard library."""
