"""Records of small contests, as stages write them, and what a tracking server made of them."""

import json
import os
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from segbench.tracking.records import Champion, DatasetInput, ModelFile, Record, Run, now_ms

DATA = "d" * 16 + "-" + "e" * 16


@dataclass
class Contest:
    """Records below a folder, of trainings of two candidates and their comparisons.

    Attributes:
        folder: where they go.
        experiment: of all of them.
        scores: test dice of each candidate.
        clock: UNIX time in milliseconds at which the next record ends.
    """

    folder: Path
    experiment: str
    scores: dict[str, float] = field(default_factory=lambda: {"good": 0.8, "bad": 0.6})
    clock: int = 1_700_000_000_000

    def id_of(self, alias: str) -> str:
        return uuid.uuid5(uuid.NAMESPACE_OID, f"{self.experiment}/{alias}").hex

    def train(self, alias: str) -> list[Path]:
        """Records of a training and of its evaluation."""
        run = Run(
            *(self.id_of(alias), "train", self.experiment, f"{alias}-fold0-seed0", self.clock),
            params={"candidate.alias": alias, "fold": "0", "seed": "0"},
            inputs=[DatasetInput("polyps", DATA[::-1], "data/arrays/fold0/train", {}, "train")],
        )
        folders = [self.folder / alias / stage for stage in ("train/record", "evaluate/record")]
        with Record(folders[0], run) as record:
            for step in range(3):
                record.log(step, {"epoch/val_loss": 1 / (step + 1)})
            record.tags["selected_epoch"] = "2"
        self._ended(folders[0])
        (folders[1].parent).mkdir(parents=True, exist_ok=True)
        (folders[1].parent / "model.pt2").write_bytes(alias.encode())
        inputs = [
            DatasetInput("polyps", DATA, "data/arrays/fold0/test", {}, "test"),
            DatasetInput("polyps", "f" * 33, "data/arrays/fold0/val", {}, "val"),
        ]
        scored = Run(
            *(run.id, "evaluate", self.experiment, run.name, now_ms()),
            inputs=inputs,
            model=ModelFile("../model.pt2", 3, 1),
        )
        with Record(folders[1], scored) as record:
            score = self.scores[alias]
            record.log(0, {"test/dice_per_image": score, "val/dice_per_image": score + 0.01})
            record.tags |= {"segbench.weights_sha256": f"{alias:_>64}", "chosen.threshold": "0.5"}
        self._ended(folders[1])
        return folders

    def deliver(self, alias: str) -> Path:
        """The record of a delivery of a training's model."""
        run = Run(self.id_of(alias), "deliver", self.experiment, f"{alias}-fold0-seed0", now_ms())
        folder = self.folder / alias / "deliver/record"
        with Record(folder, run) as record:
            record.artifact("card/card.md").write_text(f"# {alias}")
            record.tags["card"] = "card/card.md"
        self._ended(folder)
        return folder

    def compare(
        self,
        best: str = "good",
        name: str = "comparison",
        relation: str = "worse",
        children: tuple[str, ...] = ("good", "bad"),
        **changes: Any,
    ) -> Path:
        """The record of a comparison; its id follows from what it says."""
        said = json.dumps([best, name, relation, children, self.scores, sorted(changes)])
        id = uuid.uuid5(uuid.NAMESPACE_OID, self.experiment + said).hex
        fields: dict[str, Any] = {
            "model": f"{self.experiment}-{name}",
            "run": self.id_of(best),
            "score": self.scores[best],
            "metric": "dice_per_image",
            "lower_is_better": False,
            "data": DATA,
            "doubts": [],
            "relations": {
                self.id_of(one): "champion" if one == best else relation for one in children
            },
            "tags": {"candidate": best, "verdict": f"{best} leads"},
        }
        run = Run(
            *(id, "compare", self.experiment, f"{name}: {best} leads", self.clock),
            params={"comparison.name": name},
            children=[self.id_of(one) for one in children],
            comparison=name,
            child_metrics={self.id_of(one): {f"{name}/rank": 1.0} for one in children},
            views={
                f"{name}-cost": json.dumps({"name": name, "createdAt": self.clock, "state": id})
            },
            champion=Champion(**{**fields, **changes}),
        )
        folder = self.folder / f"compare-{self.clock}"
        with Record(folder, run) as record:
            record.log(0, {"test/dice_per_image": self.scores[best]})
            record.artifact("report/comparison.html").write_text(f"<p>{best}</p>")
            record.tags["champion"] = best
        self._ended(folder)
        return folder

    def _ended(self, folder: Path) -> None:
        """As if it had ended at the clock, which goes on."""
        path = folder / "end.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "time_ms": self.clock}))
        self.clock += 60_000


def records_below(folder: Path) -> list[Path]:
    return sorted(Path(root) for root, _, files in os.walk(folder) if "run.json" in files)
