"""One verdict over finished comparisons of the same candidates on several data sets."""
