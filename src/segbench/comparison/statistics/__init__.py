"""Statistics of scores: arrays in, values out; every claim with the design that it needs.

Own code where libraries have no step-down test and interval that agree, for groups of images and
seeds at once; tests hold it to scipy, and simulations to its claims.
"""
