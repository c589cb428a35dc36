"""What candidates scored in trials of learning rates, and whom one rate for all would favour."""

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd


def trial_table(runs: Iterable[tuple[str, Mapping[str, Any]]]) -> pd.DataFrame:
    """What each candidate scored in its trials at each learning rate; see `tuning.Trial`.

    Args:
        runs: an alias and what its run file says, of each seed and fold.

    Returns:
        Validation dice per image, mean over seeds and folds: a row a candidate, in the order of
        the runs, a column a rate, ascending; none without tuning. NaN where one of the trials has
        no score: trained at that rate, the candidate would have failed too.
    """
    names = ["candidate", "learning_rate", "dice"]
    tried = [
        (alias, trial["learning_rate"], trial["val_dice_per_image"])
        for alias, run in runs
        for trial in run["tuning"]
    ]
    table = pd.DataFrame(tried, columns=names).astype({"dice": float})
    means = table.groupby(names[:2])["dice"].agg(lambda scores: scores.mean(skipna=False))
    return means.unstack().reindex(table["candidate"].unique())


def leaders(table: pd.DataFrame) -> dict[float, str]:
    """Who would lead if all were trained at one rate, for each rate at which anyone has a score.

    Args:
        table: of `trial_table`. Of equal candidates the first leads.
    """
    rates = table.columns[table.notna().any()]
    return {float(rate): str(table[rate].idxmax()) for rate in rates}
