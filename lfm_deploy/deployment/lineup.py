"""Who is to be compared: the checkpoint, every graph and every engine of a workdir."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from engines.cpu_settings import default_settings, find_settings
from engines.gpu_settings import PLAIN
from engines.gpu_settings import find_settings as find_gpu_settings
from lfm_deploy.artifacts import GraphInfo, Precision, build_command, read_graph_info
from lfm_deploy.contract import Contract
from lfm_deploy.deployment.kernel_table import KernelTableValues, describe_kernels
from lfm_deploy.engine_info import EngineInfo, read_engine_info
from lfm_deploy.errors import ArtifactError
from lfm_deploy.quantisation import Quantisation, Recipe
from lfm_deploy.storage.atomic import sha256_of_file
from lfm_deploy.workdir import Workdir, check_origin


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A file that ought to run: the checkpoint, which comes first and is the reference, a graph or an engine.

    Attributes:
        path: path of the file.
        name: name in reports, unique in a workdir.
        place: runtime and device, the same for engines whose speeds can be compared.
        precision: arithmetic of the candidate.
        device: device to run on; None leaves it to the kind of file.
        contract: contract that says which pictures the candidate takes; None for the checkpoint, which takes any.
        batches: smallest and largest batch of its profile.
        quantisation: ranges, layers and budget of an INT8 graph or engine; None for others.
        compiled: whether ``torch.compile`` makes the kernels; for the checkpoint alone.
        kernels: kernels of a TensorRT engine at best; None where its library lists none.
        threshold: logit above which it decides "fake", the same for all of a workdir.
        uncertain_above: lower end of the band below the threshold, the same for all; None without a band.
    """

    path: Path
    name: str
    place: str
    precision: Precision
    device: str | None
    contract: Contract | None = None
    batches: tuple[int, int] = (1, 65535)
    quantisation: Quantisation | None = None
    compiled: bool = False
    kernels: KernelTableValues | None = None
    threshold: float = 0.0
    uncertain_above: float | None = None

    @property
    def form(self) -> dict[str, Any]:
        """Further arguments of ``load_engine``: a checkpoint runs in the form that is asked for, files have theirs."""
        if self.path.suffix != ".pth":
            return {}
        return {"precision": str(self.precision)} | ({"compiled": True} if self.compiled else {})


def find_candidates(workdir: Workdir, device: str, *, compiled: bool = False) -> list[Candidate]:
    """The checkpoint, every graph and every engine of a workdir, each checked to be whole and of one origin.

    Args:
        workdir: workdir whose files they are.
        device: ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.
        compiled: whether the checkpoint compiled by ``torch.compile`` is among them, too.

    Raises:
        ArtifactError: a file is damaged, foreign, has another threshold than the rest, or was made from another
            checkpoint or another graph.
    """
    found = [
        Candidate(
            path=workdir.require_checkpoint(),
            name=_named("pytorch fp32", device),
            place=f"pytorch on {device}",
            precision=Precision.FP32,
            device=device,
        )
    ]
    if device.startswith("cuda"):  # on a CPU autocast is slower than float32, and nobody's way to run it
        found.append(replace(found[0], name=_named("pytorch fp16", device), precision=Precision.FP16))
    if compiled:
        found += [
            replace(one, name=_named(f"pytorch {one.precision} compiled", device), compiled=True) for one in found
        ]
    found += [_graph_candidate(workdir, path, device) for path in workdir.graphs()]
    found += [_engine_candidate(workdir, path, device) for path in workdir.engines()]
    decided = _find_decided(found)
    return [replace(one, threshold=decided.threshold, uncertain_above=decided.uncertain_above) for one in found]


def find_contract(workdir: Workdir) -> Contract:
    """The contract that a workdir's artifacts have; the default one where it holds a checkpoint alone.

    Args:
        workdir: folder that a checkpoint was exported into.

    Raises:
        ArtifactError: the first artifact is damaged or foreign.
    """
    graphs, engines = workdir.graphs(), workdir.engines()
    if graphs:
        return read_graph_info(graphs[0]).contract
    return read_engine_info(engines[0]).contract if engines else Contract()


def _find_decided(found: list[Candidate]) -> Contract:
    """The contract by whose threshold all decide.

    Raises:
        ArtifactError: two artifacts have different thresholds.
    """
    decided: Contract | None = None
    for one in found:
        if one.contract is None:
            continue
        decided = decided or one.contract
        if one.contract.decision != decided.decision:
            raise ArtifactError(
                f"{one.path}: its threshold is {_show(one.contract)}, that of the others here {_show(decided)}; "
                "run 'lfm-deploy threshold PICTURES --fpr 1%', which gives all of them the same, or build it again"
            )
    return decided or Contract()


def _show(contract: Contract) -> str:
    band = "" if contract.uncertain_above is None else f" (uncertain above {contract.uncertain_above:g})"
    return f"{contract.threshold:g}{band}"


def _graph_candidate(workdir: Workdir, path: Path, device: str) -> Candidate:
    graph = read_graph_info(path)
    check_graph(workdir, path, graph)
    recipe = _recipe(graph)
    runtime: str
    if device == "cpu":
        runtime = (find_settings(path) or default_settings(precision=graph.precision)).runtime
    else:
        runtime = (find_gpu_settings(path, device) or PLAIN).runtime
    # As an engine of its own it is another one than the checkpoint's.
    engine = "torch.compile" if runtime == "pytorch" else runtime
    return Candidate(
        path=path,
        name=_named(f"{engine} {graph.precision}{f' {recipe}' if recipe else ''}", device),
        place=f"{runtime} on {device}",
        precision=graph.precision,
        device=device,
        contract=graph.contract,
        quantisation=graph.quantisation,
    )


def _engine_candidate(workdir: Workdir, path: Path, device: str) -> Candidate:
    engine = read_engine_info(path)
    check_engine(workdir, path, engine)
    return Candidate(
        path=path,
        name=f"{engine.runtime} {engine.precision} {engine.gpu}",
        place=f"{engine.runtime} on {engine.gpu}",
        precision=engine.precision,
        device=device if device.startswith("cuda") else None,
        contract=engine.contract,
        batches=(engine.batch[0], engine.batch[2]),
        quantisation=engine.quantisation,
        kernels=describe_kernels(engine),
    )


def graph_command(workdir: Workdir, path: Path, graph: GraphInfo) -> str:
    """The command that makes a graph of a workdir anew."""
    if path == workdir.graph(Precision.FP32):
        return "lfm-deploy export CHECKPOINT.pth"
    return build_command(graph.precision, recipe=_recipe(graph))


def check_graph(workdir: Workdir, path: Path, graph: GraphInfo) -> None:
    """Refuse a graph that was made from another checkpoint than the workdir's.

    Raises:
        ArtifactError: the graph is stale; the message has the remedy.
    """
    check_origin(path, graph.checkpoint_sha256, workdir, graph_command(workdir, path, graph))


def check_engine(workdir: Workdir, path: Path, engine: EngineInfo) -> None:
    """Refuse an engine that was built from another checkpoint or graph than the workdir's.

    Raises:
        ArtifactError: the engine is stale; the message has the remedy.
    """
    remedy = build_command(engine.precision, engine.gpu)
    check_origin(path, engine.checkpoint_sha256, workdir, remedy)
    graph = workdir.graph(engine.precision)
    if graph.is_file() and sha256_of_file(graph) != engine.onnx_sha256:
        raise ArtifactError(f"{path}: stale: the ONNX file that it was built from has changed; run '{remedy}'")


def _recipe(graph: GraphInfo) -> Recipe | None:
    return None if graph.quantisation is None else graph.quantisation.recipe


def _named(name: str, device: str) -> str:
    return name if device == "cpu" else f"{name} {device}"
