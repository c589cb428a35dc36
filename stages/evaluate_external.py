"""Score one trained model on an external test set."""

from segbench import stage

if __name__ == "__main__":
    stage.main("segbench.evaluation.evaluate_external:evaluate_external", tracked=True)
