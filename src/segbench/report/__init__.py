"""The pages that a team reviews: each one HTML file that needs nothing else."""
