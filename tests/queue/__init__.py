"""`AsyncQueue`, apart from which engine it has."""
