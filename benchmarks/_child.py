"""A process of a benchmark: calls one function and prints what it returns as JSON.

`python -m benchmarks._child MODULE FUNCTION PARAMETERS`, the last as JSON.
"""

from __future__ import annotations

import importlib
import json
import os
import sys


def main() -> None:
    """Run as the command line says."""
    module, function, parameters = sys.argv[1:]
    result = getattr(importlib.import_module(module), function)(**json.loads(parameters))
    print(json.dumps(result), flush=True)
    # Some peers' threads are blocked for ever and would keep the interpreter from ending.
    os._exit(0)


if __name__ == "__main__":
    main()
