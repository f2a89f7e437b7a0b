"""`aiomanager demo`: what the package is for, to be seen."""
