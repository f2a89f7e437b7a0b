"""The standard library's proxies as the oracle: each scenario is written once, over blocking calls,
and runs with these proxies and with ours. What passes with them passes with ours.

`faces.py` has the two faces, `hosts.py` what is hosted, `conftest.py` which face meets which host
under which start method, and `world.py` what a scenario has at hand. `cpython.py` runs the standard
library's own tests of managers in the same way.
"""
