"""What each stage costs: seconds, disk, and what it leaves for others."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from segbench.parallel import num_cores
from segbench.params import Params
from segbench.planning.samples import Data, Images, Samples, count_images, seconds_to_pack
from segbench.planning.speed import Speed, Timing, untrained
from segbench.planning.stages import parts_of

# Dataset, arrays and models lie in the workspace and in DVC's cache; models in MLflow too.
COPIES, MODEL_COPIES = 2, 3
BYTES_PER_PARAMETER = 4
SECONDS_PER_AUDITED = 0.002

# What follows is in units of what it takes to import torch and all else that a training needs: that
# is measured, and stands for the speed of Python on this machine.
DVC = 0.4
"""What DVC takes to start and to end."""
FIXED = {
    "download": 0.3,
    "split": 0.5,
    "augment": 0.9,
    "train": 1.4,
    "evaluate": 1.5,
    "measure": 1.4,
    "compare": 0.9,
    "download_external": 0.3,
    "audit_external": 0.5,
    "augment_external": 0.9,
    "evaluate_external": 1.5,
}
"""A stage's imports, its records and DVC's own work for it."""
EXPORTED, EXPORTED_MODULE = 0.5, 0.0034
"""To export a network and read the file again: for any, and for each of its modules."""
SCORED_MEGAPIXEL = 0.09
"""To score predictions, on one core."""
MEASURED, MEASURED_ROUNDS = 0.3, 10
"""To measure a network's memory and build it; and rounds that its time is measured in, with the
first calls."""


@dataclass(frozen=True)
class Estimate:
    """What one execution of a stage costs."""

    seconds: float
    bytes: int


class Costs:
    """What stages cost by what was timed.

    Args:
        params: all of them.
        data: what there is of it.
        timing: of all candidates whose stages are asked for.
        once: cost of what runs for all candidates, by name and external set; None: estimate it.
    """

    def __init__(
        self,
        params: Params,
        data: Data,
        timing: Timing,
        once: Mapping[tuple[str, str], Estimate] | None = None,
    ) -> None:
        self._params, self._data, self.timing = params, data, timing
        self.by_candidate = {
            alias: estimate_runs(params, speed, timing, data.samples, data.images)
            for alias, speed in timing.speeds.items()
        }
        self._once = self._estimate_once() if once is None else once

    def by(self, timing: Timing) -> "Costs":
        """The same, with candidates timed elsewhere."""
        return Costs(self._params, self._data, timing, self._once)

    def of(self, stage: str) -> Estimate:
        """What a stage costs, by name, its start included."""
        name, alias, external = parts_of(stage)
        if alias and external:
            samples = self._data.sets[external]
            number = count_images(self._params, samples.some, samples.total).all
            speed = self.timing.speeds[alias]
            scored = seconds_to_score(self._params, speed, samples, number, self.timing)
            cost = Estimate(scored, 0)
        else:
            cost = self.by_candidate[alias][name] if alias else self._once[name, external]
        return Estimate(cost.seconds + self.timing.start_up * FIXED[name], cost.bytes)

    def seconds(self, stages: Collection[str]) -> float:
        """One after another."""
        return sum(self.of(stage).seconds for stage in stages)

    @cached_property
    def checkpoints(self) -> int:
        """Bytes of the checkpoints of the largest network while it trains."""
        from segbench.training.checkpoints import KEPT

        # The weights, the best ones, their average and two moments of the optimiser.
        copies = 5
        largest = max(speed.num_parameters for speed in self.timing.speeds.values())
        return BYTES_PER_PARAMETER * largest * copies * KEPT

    def _estimate_once(self) -> dict[tuple[str, str], Estimate]:
        params, data = self._params, self._data
        found = estimate_data(params, data.samples, data.images)
        # Of aliases that differ in their weights only, one is measured.
        measured = {
            untrained(params.candidates[alias]).model_dump_json(): cost["measure"].seconds
            for alias, cost in self.by_candidate.items()
        }
        found["measure"] = Estimate(sum(measured.values()), 0)
        once = {(name, ""): cost for name, cost in found.items()}
        for external, samples in data.sets.items():
            own = estimate_set(params, samples, data.samples.total)
            once |= {(name, external): cost for name, cost in own.items()}
        return once


def estimate_data(params: Params, samples: Samples, images: Images) -> dict[str, Estimate]:
    """Cost of download, split and augment, beside what is fixed."""
    stored = params.split.num_folds * (images.all + images.copies)
    return {
        "download": _estimate_download(samples),
        "split": Estimate(SECONDS_PER_AUDITED * samples.total, 0),
        "augment": _estimate_packing(params, samples, stored),
        "compare": Estimate(0.0, 0),
    }


def estimate_set(params: Params, samples: Samples, total: int) -> dict[str, Estimate]:
    """Cost of what is done once for an external set, beside what is fixed.

    Args:
        params: all of them.
        samples: of the external set.
        total: images of the dataset that it is compared with.
    """
    images = count_images(params, samples.some, samples.total)
    return {
        "download_external": _estimate_download(samples),
        "audit_external": Estimate(SECONDS_PER_AUDITED * (samples.total + total), 0),
        "augment_external": _estimate_packing(params, samples, images.all),
    }


def bytes_read(samples: Samples) -> int:
    """Of a dataset in canonical form, at most."""
    raw = float(np.mean([one.image.nbytes + one.mask.nbytes for one in samples.some]))
    return int(raw * samples.total)


def bytes_packed(params: Params, images: float) -> int:
    """Of so many images in arrays."""
    return int(4 * params.augment.height * params.augment.width * images)


def _estimate_download(samples: Samples) -> Estimate:
    # Writing a PNG and reading it again takes about as long as making the sample.
    seconds = 2 * samples.read * samples.total / num_cores()
    return Estimate(seconds, COPIES * bytes_read(samples))


def _estimate_packing(params: Params, samples: Samples, stored: float) -> Estimate:
    """Of so many images that are stored."""
    pack = seconds_to_pack(params, samples)
    seconds = (samples.read + pack) * samples.total / num_cores()
    return Estimate(seconds, COPIES * bytes_packed(params, stored))


def estimate_runs(
    params: Params, speed: Speed, timing: Timing, samples: Samples, images: Images
) -> dict[str, Estimate]:
    """Cost of training, evaluating and measuring a candidate once, beside what is fixed.

    Args:
        params: all of them.
        speed: of its network.
        timing: of the machine.
        samples: a few.
        images: how many there are.
    """
    from segbench.training.lr_search import recipes_to_try
    from segbench.training.phases import phases_of

    steps = params.train.steps_per_epoch
    trained = steps * params.train.batch_size if steps else images.train
    seconds = sum(
        phase.num_epochs * ((step + timing.made) * trained + speed.predict * images.val)
        for recipe in (*recipes_to_try(params), params.train)
        for step, phase in zip(speed.steps, phases_of(recipe), strict=False)
    )
    weights = BYTES_PER_PARAMETER * speed.num_parameters
    scored = seconds_to_score(params, speed, samples, images.val + images.test, timing)
    views = 4 if params.evaluate.flips else 1
    exported = EXPORTED + EXPORTED_MODULE * speed.num_modules
    round_seconds = views * (speed.latency + speed.predict * params.evaluate.batch_size)
    measured = timing.start_up * MEASURED + MEASURED_ROUNDS * round_seconds
    return {
        "train": Estimate(seconds, COPIES * weights),
        "evaluate": Estimate(scored + timing.start_up * exported, MODEL_COPIES * weights),
        "measure": Estimate(measured, 0),
    }


def seconds_to_score(
    params: Params, speed: Speed, samples: Samples, number: float, timing: Timing
) -> float:
    """Seconds to predict and score images.

    Args:
        params: all of them.
        speed: of the network.
        samples: a few of the images.
        number: of images.
        timing: of the machine.
    """
    own_size = float(np.mean([sample.mask.size for sample in samples.some]))
    megapixels = number * (params.augment.height * params.augment.width + own_size) / 1e6
    views = 4 if params.evaluate.flips else 1
    scored = SCORED_MEGAPIXEL * megapixels / timing.cores
    return views * speed.predict * number + timing.start_up * scored
