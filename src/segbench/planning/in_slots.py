"""How fast networks are where several train at once, each on its share of the cores."""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from dataclasses import asdict

import psutil
from pydantic import TypeAdapter

from segbench.errors import InputError
from segbench.jobs.slots import Slot
from segbench.planning.speed import Speed, Timing

MEMORY_OF_ONE = 2 * 2**30
"""Bytes that a process that times is given."""


def time_in_slots(slots: Sequence[Slot], aliases: Collection[str]) -> Timing:
    """Time candidates in all slots at once, since cores share their memory's speed and their clock.

    Args:
        slots: shares of this machine; only as many are filled as there is memory for.
        aliases: the candidates.

    Returns:
        Means over the slots.

    Raises:
        InputError: if a process fails, which says why itself.
    """
    most = max(1, psutil.virtual_memory().available // MEMORY_OF_ONE)
    with ExitStack() as stack:
        processes = []
        for slot in slots[:most]:
            process = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-m", "segbench.planning", *aliases],
                    env={**os.environ, **slot.environment},
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            stack.callback(process.kill)
            processes.append(process)
        pipes = [(one.stdin, one.stdout) for one in processes if one.stdin and one.stdout]
        for _, out in pipes:
            out.readline()  # it is ready
        for into, _ in pipes:
            into.close()  # go
        said = [out.read() for _, out in pipes]
        if any(process.wait() for process in processes):
            raise InputError("steps could not be timed in slots, for the reason above")
    return mean([TypeAdapter(Timing).validate_json(text) for text in said])


def mean(timings: Sequence[Timing]) -> Timing:
    """Of what was timed at once."""
    first = timings[0]
    return Timing(
        start_up=statistics.mean(one.start_up for one in timings),
        made=statistics.mean(one.made for one in timings),
        cores=first.cores,
        speeds={alias: _mean([one.speeds[alias] for one in timings]) for alias in first.speeds},
    )


def _mean(speeds: Sequence[Speed]) -> Speed:
    first = speeds[0]
    return Speed(
        steps=[
            statistics.mean(phase) for phase in zip(*(one.steps for one in speeds), strict=True)
        ],
        predict=statistics.mean(one.predict for one in speeds),
        latency=statistics.mean(one.latency for one in speeds),
        num_modules=first.num_modules,
        num_parameters=first.num_parameters,
    )


def written(timing: Timing) -> str:
    """As JSON, which `time_in_slots` reads."""
    return json.dumps(asdict(timing))
