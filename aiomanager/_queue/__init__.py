"""`AsyncQueue` and its parts. Knows the contract of engines, and nothing below it."""
