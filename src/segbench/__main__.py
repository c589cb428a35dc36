"""`python -m segbench` is `segbench`, where the script is not on PATH."""

from segbench.cli import main

main()
