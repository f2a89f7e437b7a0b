"""What belongs to one process and to one event loop, and what is done by neither."""
