"""Look for images of the training set in an external test set."""

from segbench import stage

if __name__ == "__main__":
    stage.main("segbench.splits.audit_external:audit_external")
