"""How OpenMP's threads wait, and what a process beside a training then costs it.

    (g) images a second of training steps by number of threads and by how they wait for each other,
        alone and beside one process that takes all the time it gets, over the best alone; "side by
        side" is what `segbench repro` does on a CPU: a training of one thread on each core

Every setting has a process of its own, since OpenMP reads it once. They take turns of a few
seconds, and what counts is the median of each. For a CPU.

    python benchmarks/threads.py params.yaml
"""

import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import training
from segbench.devices import prepare, resolve
from segbench.parallel import num_cores

ONE = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
SIDE_BY_SIDE = "side by side"
SETTINGS = {
    SIDE_BY_SIDE: ONE,
    "1 thread": ONE,
    "as it comes": {},
    "passive": {"OMP_WAIT_POLICY": "passive"},
    **{f"{number} spins": {"GOMP_SPINCOUNT": str(number)} for number in (1000, 10_000)},
}
WORK = {
    "mobilenetv2_035 at 64": ("tu-mobilenetv2_035", 64, 32),
    "resnet18 at 128": ("resnet18", 128, 8),
}
"""Encoder, size and batch size."""
ROUNDS, SECONDS = 3, 2.0
BUSY = "while True: pass"


def serve(path: Path) -> None:
    """Answer each line of stdin, a name of work, by images a second."""
    steps: dict[str, tuple[Callable[[], None], int]] = {}
    with TemporaryDirectory() as temporary:
        for name, (encoder, size, batch) in WORK.items():
            training.SIZE = size
            params = training.configured(path, batch)
            prepare(resolve(params.hardware))
            root = Path(temporary) / name
            training.generate(root, 2 * batch, 0)
            bench = training.Bench(params, encoder, root)
            resident = bench.resident()
            step = bench.step(bench.fast_network(), lambda held=resident: held, bench.kind)
            step()
            steps[f"{name}, {bench.resolved.precision}"] = step, batch
        print(json.dumps([*steps]), flush=True)
        for line in sys.stdin:
            step, batch = steps[line.strip()]
            step()
            started, count = time.perf_counter(), 0
            while (spent := time.perf_counter() - started) < SECONDS:
                step()
                count += 1
            print(count * batch / spent, flush=True)


@contextmanager
def process(*command: str, **environment: str):
    """A process of this interpreter, spoken to by its stdin and stdout."""
    one = subprocess.Popen(
        [sys.executable, *command],
        env={**os.environ, **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield one
    finally:
        one.kill()
        one.wait()


def measure(servers: dict[str, list[subprocess.Popen[str]]], work: str) -> dict[str, float]:
    """Images a second of each setting, of all its processes together: medians over rounds."""
    rows = {name: [] for name in servers}
    for _ in range(ROUNDS):
        for name, own in servers.items():
            for server in own:
                server.send_signal(signal.SIGCONT)
                server.stdin.write(f"{work}\n")
                server.stdin.flush()
            rows[name].append(sum(float(server.stdout.readline()) for server in own))
            for server in own:
                server.send_signal(signal.SIGSTOP)  # threads that spin would go on
    return {name: statistics.median(row) for name, row in rows.items()}


def main(path: str) -> None:
    found = {}
    with ExitStack() as stack:
        servers = {}
        for name, setting in SETTINGS.items():
            servers[name] = []
            for _ in range(num_cores() if name == SIDE_BY_SIDE else 1):
                server = stack.enter_context(process(__file__, path, "serve", **setting))
                names = json.loads(server.stdout.readline())
                server.send_signal(signal.SIGSTOP)
                servers[name].append(server)
        print(f"{'(g)':<46}" + "".join(f"{name:>14}" for name in servers), flush=True)
        for work in names:
            best = 0.0
            for place, busy in (("alone", "pass"), ("beside one", BUSY)):
                with process("-c", busy):
                    rates = measure(servers, work)
                best = best or max(rates.values())
                found[f"{work}, {place}"] = {name: rate / best for name, rate in rates.items()}
                ratios = "".join(f"{rate / best:>14.2f}" for rate in rates.values())
                print(f"{f'{work}, {place}':<46}{ratios}", flush=True)
    print(json.dumps({"bench": found}))


if __name__ == "__main__":
    serve(Path(sys.argv[1])) if sys.argv[2:] else main(sys.argv[1])
