"""The contract, and each engine."""
