"""How fast raybench itself is: ratios against a peer that does the same work, both measured in one run.

`make bench` runs all; `python -m benchmarks.NAME` runs one. Each prints a line a figure and writes
benchmarks/results/NAME.json. The peers, what a user would write by hand, are in benchmarks/baselines.
"""
