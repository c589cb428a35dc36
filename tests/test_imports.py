"""Each process imports what it works with, and nothing else that takes long."""

import subprocess
import sys

import pytest

HEAVY = {
    *("albumentations", "dvc", "jinja2", "lightning", "lightning_fabric", "matplotlib", "mlflow"),
    *("networkx", "pandas", "scipy", "segmentation_models_pytorch", "sklearn", "statsmodels"),
    *("timm", "torch", "torchmetrics", "torchvision"),
}
"""Packages that take a tenth of a second and more."""
NETWORKS = {"segmentation_models_pytorch", "timm", "torch", "torchvision"}
ALLOWED = {
    "datasets.download": {"pandas"},
    "splits.split": {"jinja2", "matplotlib", "pandas", "scipy"},
    # albumentations imports torch where it is installed.
    "arrays.augment": {"albumentations", "pandas", "scipy", "torch"},
    "training.train": {"albumentations", "lightning_fabric", "pandas", "scipy"} | NETWORKS,
    "evaluation.evaluate": {"pandas"} | NETWORKS,
    "evaluation.measure": {"pandas"},  # the server for memory starts before it imports networks
    "evaluation.inference": {"pandas"} | NETWORKS,
    "comparison.compare": {"jinja2", "matplotlib", "pandas", "scipy"},
    "comparison.several.page": {"jinja2", "matplotlib", "pandas", "scipy"},
    "tracking.follower": set(),
    "tracking.replay": {"mlflow", "pandas", "scipy"},
    "planning.plan": {"dvc", "networkx", "pandas"},
}
"""What the module of a stage's function or of another process may import of these."""


@pytest.mark.parametrize("module", ALLOWED)
def test_nothing_is_imported_in_vain(module: str) -> None:
    code = f"import sys, segbench.{module}\nprint(*{{name.split('.')[0] for name in sys.modules}})"
    command = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    imported = {*done.stdout.split()} & HEAVY
    assert imported - ALLOWED[module] == set()
    assert ALLOWED[module] - imported == set(), "allowed in vain"
