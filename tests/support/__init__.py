"""What tests share; imported before anything that computes."""

import os

# On tensors of a few kilobytes a second thread only makes the first wait, and two test processes
# share the cores anyway. torch reads it when it is imported.
os.environ["OMP_NUM_THREADS"] = "1"
