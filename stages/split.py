"""Divide the samples into train, val and test, and audit masks and split for what leaks."""

from segbench import stage

if __name__ == "__main__":
    stage.main("segbench.splits.split:split")
