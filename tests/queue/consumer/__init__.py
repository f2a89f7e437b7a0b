"""Contract: `consume()` over each kind of queue, on each event loop."""
