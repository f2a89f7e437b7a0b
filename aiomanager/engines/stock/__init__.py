"""A queue at a stock manager: what it takes to lose nothing there."""
