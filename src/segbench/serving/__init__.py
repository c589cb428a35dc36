"""A model as `mlflow models serve` calls it."""
