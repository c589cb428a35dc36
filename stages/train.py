"""Fit one candidate with one seed on one fold."""

from segbench import stage

if __name__ == "__main__":
    stage.main("segbench.training.train:train", tracked=True)
