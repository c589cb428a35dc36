"""Score one trained model on validation and test."""

from segbench import stage

if __name__ == "__main__":
    stage.main("segbench.evaluation.evaluate:evaluate", tracked=True)
