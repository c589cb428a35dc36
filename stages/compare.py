"""Rank the candidates and write the report."""

from segbench import stage

if __name__ == "__main__":
    stage.main("segbench.comparison.compare:compare", tracked=True)
