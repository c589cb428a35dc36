"""The sections `report` and `tracking`: what to show, and how long to wait for MLflow."""

from typing import Literal

from pydantic import (
    PositiveFloat,
    PositiveInt,
)

from segbench.params.section import Section


class Report(Section):
    """What the report shows."""

    pictures: Literal["auto", "embed", "link", "none"]
    """Sample predictions in the report, which is kept in git. auto: embed them if the dataset may
    be redistributed, else link to the local files."""
    num_samples: PositiveInt


class Tracking(Section):
    """How long a stage waits for MLflow."""

    max_wait_s: PositiveFloat
    """Maximum time for MLflow to catch up after a stage has finished."""
