"""What hosts a queue: one contract (`base`), and an engine for each kind of host."""
