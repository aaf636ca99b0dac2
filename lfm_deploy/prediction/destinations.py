"""Where verdicts and drawings may go: not over the pictures, lists, shards and engines that they come from."""

import glob
from collections.abc import Sequence
from pathlib import Path

from lfm_deploy.errors import InputError
from lfm_deploy.pictures.folders import is_folder
from lfm_deploy.pictures.opening import IMAGE_SUFFIXES
from lfm_deploy.pictures.shards import is_shard
from lfm_deploy.pictures.sources import STANDARD_INPUT
from lfm_deploy.prediction.parquet import PARQUET_SUFFIX, rows_path
from lfm_deploy.prediction.resumption import progress_path
from lfm_deploy.prediction.rows import RowFormat, write_header
from lfm_deploy.storage.overlap import is_same, lies_in, refuse_input
from lfm_deploy.storage.places import Place, RemotePath, is_remote
from lfm_deploy.workdir import Workdir

# How every row of --format jsonl begins.
_FIRST_OF_JSONL = b'{"path": '


def check_destinations(
    output: Place | None,
    evidence: Path | None,
    *,
    paths: Sequence[str],
    lists: Sequence[str],
    engine: Path | None,
    workdir: Workdir,
    overwrite: bool,
) -> None:
    """Make sure that nothing that is read would be written over; nothing is opened for writing yet.

    Args:
        output: path or URL of the results file; None for standard output.
        evidence: path of the folder for drawings; None for none.
        paths: names of what is read, as ``find_sources`` takes them.
        lists: names of lists, as ``find_sources`` takes them.
        engine: path of the engine; None for one of the workdir.
        workdir: folder of the deployment.
        overwrite: whether a results file that is there may be lost.

    Raises:
        InputError: a file to write is one of the inputs, is called like a picture, or was not written by predict; or
            drawings would lie among the pictures.
    """
    everything = [name.removeprefix("@") for name in (*paths, *lists) if name != STANDARD_INPUT]
    if isinstance(output, RemotePath):
        if str(output) in everything:
            raise InputError(f"--output: {output} would be written, and is one of the inputs; choose another name")
        _check_name(output)
    elif output is not None:
        named = [Path(name) for name in everything if not is_remote(name)]
        ours = [workdir.checkpoint, *workdir.graphs(), *sorted(workdir.path.glob("*.engine"))]
        written = (output, progress_path(output), rows_path(output), progress_path(rows_path(output)))
        refuse_input("--output", written, [*named, *map(Path, paths), *([engine] if engine else []), *ours])
        if output.suffix == PARQUET_SUFFIX:
            _check_name(output)
        else:
            check_results_file(output, overwrite=overwrite)
    if evidence is not None:
        _check_folder(evidence, [name for name in paths if not name.startswith("@") and name != STANDARD_INPUT])


def check_results_file(output: Place, *, overwrite: bool) -> None:
    """Make sure that a file may hold rows, and that what it replaces was written by predict.

    Args:
        output: path or URL of the results file; it need not exist.
        overwrite: whether a results file that is there may be lost.

    Raises:
        InputError: the file is called like a picture or a shard, or what is there was not written by predict.
    """
    _check_name(output)
    if overwrite:
        _check_results(output)


def _check_name(output: Place) -> None:
    if output.suffix.lower() in IMAGE_SUFFIXES or is_shard(output):
        raise InputError(f"--output: {output} is called like a picture or a shard; rows go to a .csv or .jsonl file")


def _check_results(output: Place) -> None:
    """Refuse to overwrite what predict did not write: a picture by another name, or one that a list names."""
    size = len(write_header(RowFormat.CSV))
    try:
        if isinstance(output, RemotePath):
            beginning = output.read_start(size)
        elif not output.is_file():
            return  # what opens it says why it cannot be written
        else:
            with output.open("rb") as file:
                beginning = file.read(size)
    except OSError:
        return
    firsts = (write_header(RowFormat.CSV), _FIRST_OF_JSONL)
    if beginning and not any(beginning.startswith(first) or first.startswith(beginning) for first in firsts):
        raise InputError(
            f"--overwrite: {output} was not written by predict, and is left as it is; remove it yourself, or choose "
            "another name"
        )


def _check_folder(evidence: Path, named: Sequence[str]) -> None:
    """Drawings among the pictures would be judged themselves, and could take the name of one."""
    for name in named:
        path = Path(name)
        if is_folder(path):
            held = lies_in(evidence, path)
        elif path.exists() or not glob.has_magic(name):
            held = is_same(evidence, path.parent)
        else:
            parts = path.parts
            base = Path(*parts[: next(index for index, part in enumerate(parts) if glob.has_magic(part))])
            held = is_same(evidence, path.parent) or ("**" in name and lies_in(evidence, base))
        if held:
            raise InputError(
                f"--evidence: {evidence} lies where {name} leads to pictures, which are judged; choose another folder"
            )
