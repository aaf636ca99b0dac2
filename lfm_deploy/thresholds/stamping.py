"""A threshold written into every artifact of a workdir, all of them together or none.

Graphs are sealed and know each other by their check sums, so that writing into one changes what others say of it:
sidecars of engines, ranges and the choices for this CPU or GPU are written anew with it. No logit depends on a
threshold. The layers of an INT8 graph do: they were chosen by decisions at another one, which is said.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from calib.ranges import hash_contract, read_ranges
from engines.builder import fingerprint_engine
from engines.choice_file import ChoiceFile
from engines.cpu_settings import CHOICES as CPU_CHOICES
from engines.gpu_settings import CHOICES as GPU_CHOICES
from lfm_deploy.artifacts import METADATA_KEY, Precision, read_graph_info
from lfm_deploy.contract import Contract, ThresholdOrigin
from lfm_deploy.deployment.lineup import graph_command
from lfm_deploy.engine_info import read_engine_info, sidecar_path
from lfm_deploy.storage.atomic import sha256_of_bytes, sha256_of_file, write_together
from lfm_deploy.storage.graph_file import seal_graph
from lfm_deploy.workdir import Workdir


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamped:
    """What has a threshold now.

    Attributes:
        files: artifacts that were written, in the order of ``Workdir``.
        to_renew: lines on what was chosen by decisions at another threshold, with the command that renews it.
    """

    files: tuple[Path, ...]
    to_renew: tuple[str, ...]


def stamp_workdir(
    workdir: Workdir,
    threshold: float,
    uncertain_above: float | None,
    origin: ThresholdOrigin,
    values: Mapping[str, Any],
    on_message: Callable[[str], None],
) -> Stamped:
    """Write a threshold into every graph and engine of a workdir, and ``threshold.json`` beside them.

    Args:
        workdir: folder of the deployment.
        threshold: logit above which a picture is fake.
        uncertain_above: lower end of the band; None without one.
        origin: pictures and rates that it was chosen by.
        values: contents of ``threshold.json``.
        on_message: function that is given a line of text when another process holds the workdir.

    Raises:
        ArtifactError: an artifact is damaged.
    """

    def decided(contract: Contract) -> Contract:
        return replace(contract, threshold=threshold, uncertain_above=uncertain_above, chosen=origin)

    with workdir.lock(on_message):
        contents: dict[Path, bytes] = {}
        renamed: dict[str, str] = {}  # check sums of graphs, before and after
        for path in workdir.graphs():
            contents[path] = _stamp_graph(path, decided)
            renamed[sha256_of_file(path)] = sha256_of_bytes(contents[path])
        for path in workdir.engines():
            contents[sidecar_path(path)] = _stamp_engine(path, decided, renamed)
        files = tuple(contents)
        if workdir.ranges.is_file():
            contents[workdir.ranges] = _stamp_ranges(workdir.ranges, decided, renamed)
        contents |= _rename_in_choices(workdir.path, renamed)
        contents[workdir.threshold] = (json.dumps(values, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode(
            errors="replace"
        )
        write_together(contents)
        return Stamped(files=files, to_renew=tuple(_find_outdated(workdir)))


def _stamp_graph(path: Path, decided: Callable[[Contract], Contract]) -> bytes:
    import onnx

    info = read_graph_info(path)
    model = onnx.load_model_from_string(path.read_bytes())
    others = {entry.key: entry.value for entry in model.metadata_props if entry.key != METADATA_KEY}
    text = replace(info, contract=decided(info.contract)).to_json()
    onnx.helper.set_model_props(model, others | {METADATA_KEY: text})
    return seal_graph(model)


def _stamp_engine(path: Path, decided: Callable[[Contract], Contract], renamed: Mapping[str, str]) -> bytes:
    info = read_engine_info(path)
    info = replace(info, contract=decided(info.contract), onnx_sha256=renamed.get(info.onnx_sha256, info.onnx_sha256))
    return replace(info, fingerprint=fingerprint_engine(info)).to_json().encode()


def _stamp_ranges(path: Path, decided: Callable[[Contract], Contract], renamed: Mapping[str, str]) -> bytes:
    ranges = read_ranges(path)
    contract = decided(ranges.contract)
    return (
        replace(
            ranges,
            contract=contract,
            contract_sha256=hash_contract(contract),
            onnx_sha256=renamed.get(ranges.onnx_sha256, ranges.onnx_sha256),
        )
        .to_json()
        .encode()
    )


def _rename_in_choices(folder: Path, renamed: Mapping[str, str]) -> dict[Path, bytes]:
    """``cpu.json`` and ``gpu.json`` with the new check sums: how fast a graph runs does not depend on a threshold."""
    contents = {}
    files: tuple[ChoiceFile[Any], ...] = (CPU_CHOICES, GPU_CHOICES)
    for file in files:
        found = file.read_if_whole(folder)
        if found is None:
            continue
        graphs = {
            name: asdict(entry) | {"sha256": renamed.get(entry.sha256, entry.sha256)}
            for name, entry in found.graphs.items()
        }
        values = {"format": file.format, "machine": found.machine, "graphs": graphs}
        contents[folder / file.name] = (json.dumps(values, indent=1, allow_nan=False) + "\n").encode()
    return contents


def _find_outdated(workdir: Workdir) -> list[str]:
    graphs = [(path, read_graph_info(path)) for path in workdir.graphs()]
    return [
        f"{path.name}: its layers were chosen by decisions at another threshold; "
        f"'{graph_command(workdir, path, info)}' chooses them anew"
        for path, info in graphs
        if info.precision is Precision.INT8
    ]
