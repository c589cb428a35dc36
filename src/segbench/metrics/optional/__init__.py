"""Metrics that are computed only where params name them."""
