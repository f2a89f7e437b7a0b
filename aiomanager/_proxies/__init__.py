"""Every object of a manager that is no queue: locks, events, pools, classes of one's own."""
