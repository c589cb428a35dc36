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
    """Machines alike that train and score, and this one, which does the rest and gets all results.

    These are places for `lay_out`, this one being the last. Each keeps what it has pulled or made.

    Args:
        workers: number of machines.
        each: seconds that each stage takes once its inputs are there, by name.
        reads: paths that each stage depends on, by name.
        sizes: of these paths.

    Attributes:
        pulled, pushed: bytes of all machines, by kind: the first folder below data.
        results: bytes that this one pulls.
        transfers: seconds of all stages in which something is pulled or pushed for them.
    """

    def __init__(
        self,
        workers: int,
        each: Mapping[str, float],
        reads: Mapping[str, Iterable[str]],
        sizes: Sizes,
    ) -> None:
        self.number, self._each = workers + 1, each
        self._reads = {name: sizes.parts(paths) for name, paths in reads.items()}
        self._makes = {name: sizes.made(name) for name in each}
        self._held: list[dict[str, int]] = [{} for _ in range(workers)]
        self.pulled: defaultdict[str, int] = defaultdict(int)
        self.pushed: defaultdict[str, int] = defaultdict(int)
        self.results = 0
        self.transfers = 0.0

    def accepts(self, stage: Stage, place: int) -> bool:
        """Whether it is for the workers, or for this machine."""
        return stage.is_beside == (place < len(self._held))

    def seconds(self, stage: Stage, place: int) -> float:
        """What a stage takes there, with pulling and pushing."""
        return self._each[stage.name] + self._transfer(stage, place)

    def take(self, stage: Stage, place: int) -> None:
        """Note what is pulled for a stage, and pushed afterwards."""
        self.transfers += self._transfer(stage, place)
        lacks, made = self._lacks(stage, place), self._makes[stage.name]
        for path, size in lacks.items():
            self.pulled[_kind(path)] += size
        for path, size in made.items():
            self.pushed[_kind(path)] += size
        if place < len(self._held):
            self.results += sum(made.values())
            self._held[place] |= lacks | made

    @property
    def disk(self) -> int:
        """Bytes on the worker that holds most, in workspace and cache."""
        return COPIES * max(sum(held.values()) for held in self._held)

    @property
    def there(self) -> int:
        """Bytes that workers read and no stage makes: they are pushed once, from here."""
        made = {path for makes in self._makes.values() for path in makes}
        held = {path: size for one in self._held for path, size in one.items()}
        return sum(size for path, size in held.items() if path not in made)

    def _transfer(self, stage: Stage, place: int) -> float:
        lacks, made = self._lacks(stage, place), self._makes[stage.name]
        times = 2 if place < len(self._held) else 1  # to the remote, and from there to this machine
        return (sum(lacks.values()) + times * sum(made.values())) / LINK

    def _lacks(self, stage: Stage, place: int) -> dict[str, int]:
        if place == len(self._held):
            return {}
        held = self._held[place]
        return {path: size for path, size in self._reads[stage.name].items() if path not in held}


def _kind(path: str) -> str:
    return PurePosixPath(path).parts[1]
