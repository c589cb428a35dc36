"""Resize and pack the splits, write the augmentation pipeline and its preview."""

from segbench import stage

if __name__ == "__main__":
    stage.main("segbench.arrays.augment:augment")
