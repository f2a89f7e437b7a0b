"""Connecting: names, addresses, handshakes, and those who answer them badly."""
