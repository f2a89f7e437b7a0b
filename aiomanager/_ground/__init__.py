"""The ground: errors, addresses and keys. Knows the standard library alone."""
