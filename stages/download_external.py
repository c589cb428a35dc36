"""Bring an external test set into canonical form."""

from segbench import stage

if __name__ == "__main__":
    stage.main("segbench.datasets.download_external:download_external")
