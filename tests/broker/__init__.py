"""The hosted queue as a state machine."""
