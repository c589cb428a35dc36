"""The commands of `segbench`, a file for each; see `cli.py`."""
