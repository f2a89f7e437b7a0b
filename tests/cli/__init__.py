"""The command line from outside: each test starts `python -m aiomanager`, as a shell does."""
