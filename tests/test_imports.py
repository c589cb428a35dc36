"""What starts quickly, and runs where there is no torch, imports none."""

import subprocess
import sys


def test_no_torch_where_nothing_is_trained() -> None:
    modules = ("segbench.comparison.compare", "segbench.datasets.download", "segbench.plan")
    code = f"import sys, {', '.join(modules)}\nassert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)
