"""A checkpoint is resumed by what would have written it, and by nothing else."""

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from segbench.devices import resolve
from segbench.params import Params
from segbench.tracking import provenance
from segbench.training import identity
from segbench.training.identity import checkpoint_key
from segbench.training.phases import EarlyStopper
from segbench.training.state import TrainingState


def key(tree: dict[str, Any], packed: Path, **hardware: Any) -> str:
    params = Params.model_validate(tree)
    resolved = replace(resolve(params.hardware), **hardware)
    return checkpoint_key(params, "mobilenetv2_035", 0, 0, resolved, packed / "arrays")


def test_code_versions_and_machine_are_in_the_key(
    tree: dict[str, Any], packed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = key(tree, packed)
    assert key(tree, packed) == before
    assert key(tree, packed, workers=3) == before  # which change no bit
    assert key(tree, packed, threads=3) != before
    with monkeypatch.context() as patch:
        patch.setattr(identity, "sha256_of_code", lambda *places: {"models/network.py": "other"})
        assert key(tree, packed) != before
    with monkeypatch.context() as patch:
        patch.setattr(provenance, "versions", lambda: {"torch": "99"})
        assert key(tree, packed) != before
    tree["train"]["optimizer"]["weight_decay"] = 0.02
    assert key(tree, packed) != before


def test_every_field_of_a_state_is_in_its_checkpoint(tmp_path: Path) -> None:
    """By construction: one that is added later is saved and restored too."""
    values: dict[str, Any] = {
        **{one.name: 7 for one in fields(TrainingState) if one.type is int},
        **{"phase_ended": True, "lr_scale": 0.25, "stopper": EarlyStopper(0.5, 3)},
        **{"losses": [torch.ones(())], "preview_masks": [torch.zeros(2, 2, dtype=torch.uint8)]},
        **{"history": [{"epoch": 1}], "lines": ["a line"], "selected_epoch": {"epoch": 1}},
        **{"selected_weights": {"weight": torch.ones(2)}, "learner": {"network": {}}},
    }
    state = TrainingState(**values)
    default = TrainingState()
    for one in fields(TrainingState):
        assert repr(getattr(state, one.name)) != repr(getattr(default, one.name)), one.name
    torch.save(state.to_checkpoint(), tmp_path / "state.pt")
    read = torch.load(tmp_path / "state.pt", weights_only=True)
    assert repr(TrainingState.from_checkpoint(read)) == repr(state)
