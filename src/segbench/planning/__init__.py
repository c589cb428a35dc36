"""What `segbench repro` would run, how long it should take on this machine, and how much disk."""
