"""What anyio leaves open: tasks that belong to a loop, futures, batches."""
