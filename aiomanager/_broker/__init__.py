"""One queue as a state machine: no I/O, no clock of its own, no pickle."""
