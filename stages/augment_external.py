"""Resize and pack an external test set."""

from segbench import stage

if __name__ == "__main__":
    stage.main("segbench.arrays.augment_external:augment_external")
