"""The sections `report` and `tracking`: what is shown, and how long to wait for MLflow."""

from typing import Literal

from pydantic import (
    PositiveFloat,
    PositiveInt,
)

from segbench.params.section import Section


class Report(Section):
    """What the report shows."""

    pictures: Literal["auto", "embed", "link", "none"]
    """Sample predictions in the report, which enters git. auto: embed where the dataset may be
    passed on, else link to the local files."""
    num_samples: PositiveInt


class Tracking(Section):
    """How long a stage waits for MLflow."""

    max_wait_s: PositiveFloat
    """Seconds that MLflow may take to catch up after a stage has finished."""
