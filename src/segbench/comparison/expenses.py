"""Expenses: what predicting with each candidate costs, and what training it took."""

from dataclasses import dataclass
from pathlib import Path

from segbench.arrays.store import Header
from segbench.comparison.training_effort import NEAR, TrainingEffort, training_effort
from segbench.evaluation.costs import Cost, machine_of_costs, read_costs
from segbench.evaluation.results import RunResult
from segbench.params import Params


@dataclass(frozen=True)
class Expenses:
    """What the candidates take, by alias.

    Attributes:
        predicting: measured on one machine.
        machine: which.
        training: means over each one's runs.
    """

    predicting: dict[str, Cost]
    machine: str
    training: dict[str, TrainingEffort]

    @property
    def other_latencies(self) -> dict[str, str]:
        """Labels of the latencies by other runtimes than torch, by their names."""
        measured = next(iter(self.predicting.values())).other_latencies_ms
        return {name: f"latency by {name}, ms" for name in measured}

    def other_orders(self) -> dict[str, list[str]]:
        """The candidates by latency, the quickest first, of runtimes that have another order than
        torch."""
        costs, found = self.predicting, {}
        own = sorted(costs, key=lambda alias: costs[alias].latency_ms.median)
        for name in self.other_latencies:
            medians = {alias: cost.other_latencies_ms[name].median for alias, cost in costs.items()}
            order = sorted(medians, key=medians.__getitem__)
            if order != own:
                found[name] = order
        return found

    def by_kind(self, aliases: list[str]) -> dict[str, list[float | None]]:
        """What each candidate takes, by a label with its unit; None where unknown."""
        costs = [self.predicting[alias] for alias in aliases]
        efforts = [self.training[alias] for alias in aliases]
        return {
            "parameters, millions": [cost.parameters / 1e6 for cost in costs],
            "multiply-adds, billions": [cost.multiply_adds / 1e9 for cost in costs],
            "size on disk, MiB": [cost.weight_bytes / 2**20 for cost in costs],
            "latency of one image, ms": [cost.latency_ms.median for cost in costs],
            **{
                label: [cost.other_latencies_ms[name].median for cost in costs]
                for name, label in self.other_latencies.items()
            },
            "time per image in a full batch, ms": [
                1000 / cost.images_per_second.median for cost in costs
            ],
            "peak memory, MiB": [cost.peak_mib for cost in costs],
            "training, s": [effort.seconds for effort in efforts],
            f"images to {100 * NEAR:g} % of the best score": [effort.images for effort in efforts],
        }


def gather_expenses(
    params: Params,
    header: Header,
    costs: Path,
    trained: Path,
    runs: list[RunResult],
) -> Expenses:
    """What the candidates of a comparison take.

    Args:
        params: all of them.
        header: of the packed arrays.
        costs: the file that the measure stage wrote.
        trained: the folder in which each run's training has its own.
        runs: of all candidates.

    Raises:
        InputError: if no machine has measured all candidates.
    """
    return Expenses(
        read_costs(costs, params, header),
        str(machine_of_costs(costs, params, header)),
        {
            alias: training_effort([run for run in runs if run.alias == alias], trained)
            for alias in params.comparison.candidates
        },
    )
