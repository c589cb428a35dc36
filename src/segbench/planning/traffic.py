"""What machines of a cluster send and receive: each has its clone, and they share a remote."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath

from segbench.jobs.pipeline import Stage
from segbench.params import Params
from segbench.planning.costs import BYTES_PER_PARAMETER, COPIES, Costs, bytes_packed, bytes_read
from segbench.planning.samples import Data, count_images
from segbench.planning.stages import parts_of

LINK = 125_000_000
"""Bytes a second between a machine and the remote: 1 Gbit/s."""
PICTURES = 2_500_000
"""Bytes of what an evaluation writes beside the exported network: pictures, twice, and rows."""


class Sizes:
    """Bytes of what stages read and make, by path below the root; small files count as none.

    Args:
        params: all of them.
        data: what there is of it.
        costs: of the stages.
    """

    def __init__(self, params: Params, data: Data, costs: Costs) -> None:
        images = data.images
        self._weights = {
            alias: BYTES_PER_PARAMETER * speed.num_parameters
            for alias, speed in costs.timing.speeds.items()
        }
        self._folds = range(params.split.num_folds)
        splits = {"train": images.train, "val": images.val, "test": images.test}
        self._arrays = {split: bytes_packed(params, number) for split, number in splits.items()}
        self._fixed = {"data/dataset": bytes_read(data.samples)}
        for name, samples in data.sets.items():
            number = count_images(params, samples.some, samples.total).all
            self._fixed[f"data/external/{name}/dataset"] = bytes_read(samples)
            self._fixed[f"data/external/{name}/arrays"] = bytes_packed(params, number)

    def parts(self, paths: Iterable[str]) -> dict[str, int]:
        """Bytes of each large file or folder of those at paths."""
        found = {part: self._of(part) for path in paths for part in self._split(path)}
        return {path: size for path, size in found.items() if size}

    def made(self, stage: str) -> dict[str, int]:
        """Bytes of each large file or folder that a stage makes."""
        name, alias, external = parts_of(stage)
        run = "{}-fold{}-seed{}".format(*stage.partition("@")[2].split("-")[:3]) if alias else ""
        return self.parts(
            {
                "download": ["data/dataset"],
                "augment": ["data/arrays"],
                "train": [f"data/train/{run}/weights.safetensors"],
                "evaluate": [f"data/evaluate/{run}"],
                "download_external": [f"data/external/{external}/dataset"],
                "augment_external": [f"data/external/{external}/arrays"],
            }.get(name, [])
        )

    def _split(self, path: str) -> list[str]:
        """The arrays of each fold and split by themselves."""
        if path == "data/arrays":
            return [f"{path}/fold{fold}/{split}" for fold in self._folds for split in self._arrays]
        return [path]

    def _of(self, path: str) -> int:
        _, kind, *rest = *PurePosixPath(path).parts, ""
        if kind == "arrays":
            return self._arrays.get(PurePosixPath(path).name, 0)
        if kind in ("train", "evaluate"):
            weights = self._weights.get(rest[0].rpartition("-fold")[0], 0)
            return weights if kind == "train" else weights + PICTURES
        return self._fixed.get(path, 0)


class Fleet:
    """Machines alike, each with what it has pulled or made so far; places for `lay_out`.

    Args:
        number: of machines.
        each: seconds that each stage takes once its inputs are there, by name.
        reads: paths that each stage depends on, by name.
        sizes: of these paths.

    Attributes:
        pulled, pushed: bytes, by kind: the first folder below data.
        transfers: seconds of all stages in which their machine pulls or pushes.
    """

    def __init__(
        self,
        number: int,
        each: Mapping[str, float],
        reads: Mapping[str, Iterable[str]],
        sizes: Sizes,
    ) -> None:
        self.number, self._each = number, each
        self._reads = {name: sizes.parts(paths) for name, paths in reads.items()}
        self._makes = {name: sizes.made(name) for name in each}
        self._held: list[dict[str, int]] = [{} for _ in range(number)]
        self.pulled: defaultdict[str, int] = defaultdict(int)
        self.pushed: defaultdict[str, int] = defaultdict(int)
        self.transfers = 0.0

    def seconds(self, stage: Stage, place: int) -> float:
        """What a stage takes on a machine, with pulling what this one lacks and pushing."""
        return self._each[stage.name] + self._transfer(stage, place)

    def take(self, stage: Stage, place: int) -> None:
        """Note what the machine pulls, and pushes afterwards."""
        self.transfers += self._transfer(stage, place)
        held, made = self._held[place], self._makes[stage.name]
        for path, size in self._lacks(stage, place).items():
            self.pulled[_kind(path)] += size
            held[path] = size
        for path, size in made.items():
            self.pushed[_kind(path)] += size
        held |= made

    @property
    def disk(self) -> int:
        """Bytes on the machine that holds most, in workspace and cache."""
        return COPIES * max(sum(held.values()) for held in self._held)

    @property
    def there(self) -> int:
        """Bytes that stages read and none of them makes: they are pushed once, from here."""
        made = {path for makes in self._makes.values() for path in makes}
        read = {path: size for reads in self._reads.values() for path, size in reads.items()}
        return sum(size for path, size in read.items() if path not in made)

    def _transfer(self, stage: Stage, place: int) -> float:
        moved = [*self._lacks(stage, place).values(), *self._makes[stage.name].values()]
        return sum(moved) / LINK

    def _lacks(self, stage: Stage, place: int) -> dict[str, int]:
        held = self._held[place]
        return {path: size for path, size in self._reads[stage.name].items() if path not in held}


def _kind(path: str) -> str:
    return PurePosixPath(path).parts[1]
