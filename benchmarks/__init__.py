"""What aiomanager costs beside everything else that a user might pick, on the machine at hand.

`python -m benchmarks` runs it all. Each benchmark is a module: its cases, the sample that a fresh
process takes of one case, and what the samples of all rounds say.
"""
