"""Tasks, batches and event loops."""
