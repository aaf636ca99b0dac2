"""What 16-bit sums do to INT8 logits on this processor, against the same graph with sums in 32 bits.

    python benchmarks/saturation.py deploy FOLDER_OF_TEST_SETS

Processors with VNNI add in 32 bits anyway and show no difference.
"""

from pathlib import Path

import click
import numpy as np

from engines.ort import open_session
from lfm_deploy.artifacts import Precision, read_graph_info
from lfm_deploy.machine import find_instruction_sets, read_processor
from lfm_deploy.metrics.decisions import decision_flips
from lfm_deploy.pictures.images import read_batches
from lfm_deploy.quantisation import Recipe
from lfm_deploy.suites import load_suites
from lfm_deploy.workdir import Workdir


@click.command()
@click.argument("workdir", type=click.Path(path_type=Path))
@click.argument("suite", type=click.Path(path_type=Path))
def main(workdir: Path, suite: Path) -> None:
    """Score and print."""
    graph = Workdir(workdir).graph(Precision.INT8, Recipe.CPU)
    contract = read_graph_info(graph).contract
    plain, exact = (open_session(graph, str(graph), spin=False, exact_integers=exact) for exact in (False, True))
    paths = [image.path for part in load_suites(suite)[0].sets for image in part.images]
    rows = [
        [session.run(["logit"], {"image": group.images})[0] for session in (plain, exact)]
        for group in read_batches(paths, contract.size, batch=8)
        if len(group.indices)
    ]
    found, expected = (np.concatenate(column) for column in zip(*rows, strict=True))
    moved = np.abs(found - expected)
    flips = len(decision_flips(found, expected, contract.threshold))
    click.echo(f"{read_processor()}, {' '.join(find_instruction_sets())}: {len(found)} pictures")
    click.echo(f"|Δlogit| mean {moved.mean():.3f}, max {moved.max():.2f}; {flips} decisions flip")


if __name__ == "__main__":
    main()
