"""Measure what each candidate's network costs on this machine, unless it is known."""

from segbench import stage

# Processes that measure memory import this file too.
if __name__ == "__main__":
    stage.main("segbench.evaluation.measure:measure")
