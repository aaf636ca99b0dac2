"""What the statistics of a large suite cost: seconds and peak memory, on synthetic scores.

    python benchmarks/bootstrap.py --rows 100000 --rounds 2000 --sets 38

All metrics of one engine with their intervals, those of the reference, and the comparison of the two. The limits of a
verification: 20 seconds and 1 GiB for 100,000 rows and 2,000 rounds.
"""

import os
import resource
import sys
import time
from pathlib import Path

import click
import numpy as np

from engines.host import keep_freed_memory
from lfm_deploy.scoring.scores import Scores
from lfm_deploy.verification.comparison import compare_suite, measure_suite


@click.command()
@click.option("--rows", default=100_000, show_default=True)
@click.option("--rounds", default=2000, show_default=True)
@click.option("--sets", default=38, show_default=True)
def main(rows: int, rounds: int, sets: int) -> None:
    """Measure and print."""
    keep_freed_memory()  # as the command does; without it half of the time is spent on mapping memory
    rng = np.random.default_rng(0)
    reference, engine = [], []
    for index, places in enumerate(np.array_split(np.arange(rows), sets)):
        labels = (np.arange(len(places)) % 2).astype(np.int64)
        logits = (rng.normal(size=len(places)) + 2.6 * labels - 1.3).astype(np.float32)
        moved = logits + rng.normal(scale=0.01, size=len(places)).astype(np.float32)
        paths = tuple(Path(str(place)) for place in places)
        reference.append((f"set {index}", Scores(paths=paths, labels=labels, logits=logits)))
        engine.append((f"set {index}", Scores(paths=paths, labels=labels, logits=moved)))
    before = _peak_mib()
    start, cpu = time.perf_counter(), time.process_time()
    expected = measure_suite("synthetic", reference, 0.0, rounds=rounds)
    middle = time.perf_counter()
    result = compare_suite("synthetic", engine, expected, 0.0)
    end = time.perf_counter()
    flips = "not compared" if result.against is None else result.against.flips
    click.echo(f"{rows} rows in {sets} sets, {rounds} rounds: flips {flips}, {result.mean.acc}")
    click.echo(
        f"reference {middle - start:.1f} s, engine with comparison {end - middle:.1f} s, both {end - start:.1f} s"
    )
    click.echo(f"CPU time {time.process_time() - cpu:.1f} s, load of the machine {os.getloadavg()[0]:.1f}")
    click.echo(f"peak memory {_peak_mib():.0f} MiB, of which {before:.0f} MiB before the statistics")


def _peak_mib() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


if __name__ == "__main__":
    main()
