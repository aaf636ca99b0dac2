"""What a workdir holds: each artifact with its state, and the commands that make what is missing or stale."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypedDict

from lfm_deploy.artifacts import Precision, build_command, read_graph_info
from lfm_deploy.config import check_quantisable
from lfm_deploy.deployment.inspection import inspect_artifact
from lfm_deploy.deployment.lineup import check_engine, check_graph, graph_command
from lfm_deploy.engine_info import read_engine_info
from lfm_deploy.errors import ArtifactError, ConfigError, DeployError, InputError
from lfm_deploy.quantisation import Recipe
from lfm_deploy.storage.atomic import sha256_of_file
from lfm_deploy.storage.values import Reader, Sha256
from lfm_deploy.workdir import Workdir

CURRENT, STALE, DAMAGED = "current", "stale", "damaged"
_MOST_REPORT_BYTES = 64 << 20


class _Row(TypedDict):
    kind: str
    file: str
    sha256: Sha256


class _Verdict(TypedDict):
    text: str


class _Report(TypedDict):
    """What of a report is looked at here; there is much more in it."""

    engines: list[_Row]
    verdict: _Verdict


@dataclass(frozen=True, kw_only=True)
class Holding:
    """One artifact of a workdir.

    Attributes:
        path: path of the file.
        kind: ``"checkpoint"``, ``"graph"``, ``"engine"``, ``"ranges"`` or ``"report"``.
        precision: arithmetic of a graph or engine; empty for other kinds.
        size: size policy, such as ``"256x256"`` or ``"native"``; empty for a checkpoint and a report.
        checkpoint: SHA-256 of the checkpoint that the artifact was made from; empty where it is not known.
        runs: answer to whether it runs on this machine, which begins with ``"yes"`` or ``"no"``; empty for what is not
            there to be run.
        state: ``"current"``, ``"stale"`` or ``"damaged"``.
        notes: sentences on what is wrong or worth knowing, without the name of the file.
        remedy: command that makes the artifact anew, without ``--workdir``; empty for a checkpoint.
        details: plain values of ``inspect_artifact``; empty for ranges, reports and what is damaged.
    """

    path: Path
    kind: str
    precision: str = ""
    size: str = ""
    checkpoint: str = ""
    runs: str = ""
    state: str = CURRENT
    notes: tuple[str, ...] = ()
    remedy: str = ""
    details: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON: the details of the file, with its state and the remedy."""
        known = {"file": str(self.path), "kind": self.kind} | self.details
        return known | {"state": self.state, "notes": list(self.notes), "remedy": self.remedy or None}


@dataclass(frozen=True, kw_only=True)
class Step:
    """A command to run next, and why.

    Attributes:
        command: command line, complete but for names in capitals.
        why: reason in a few words.
    """

    command: str
    why: str


def list_holdings(workdir: Workdir) -> list[Holding]:
    """Every artifact of a workdir, the checkpoint first; empty for a folder that holds nothing yet.

    Raises:
        InputError: the path is not a folder, or the folder holds other things than a workdir does.
    """
    readers: list[tuple[list[Path], str, Callable[[Workdir, Path], Holding]]] = [
        ([workdir.checkpoint], "checkpoint", _read_checkpoint),
        (workdir.graphs(), "graph", _read_graph),
        (workdir.engines(), "engine", _read_engine),
        ([workdir.ranges], "ranges", _read_ranges),
        ([workdir.report], "report", _read_report),
    ]
    found = []
    for paths, kind, read in readers:
        for path in (path for path in paths if path.is_file()):
            try:
                found.append(read(workdir, path))
            except DeployError as error:
                remedy = _remedy_of_name(workdir, path, kind)
                notes = (_shorten(error, path),)
                found.append(Holding(path=path, kind=kind, state=DAMAGED, notes=notes, remedy=remedy, details={}))
    if not found:
        _require_empty(workdir)
    return [_compare_size(holding, workdir, found) for holding in found]


def suggest_steps(workdir: Workdir, holdings: list[Holding]) -> list[Step]:
    """The commands that make what is missing, stale or damaged, in the order of the work."""
    kinds = {holding.kind for holding in holdings}
    precisions = {(holding.kind, holding.precision) for holding in holdings}
    broken: dict[str, list[str]] = {}
    for holding in holdings:
        if holding.state != CURRENT and holding.remedy:
            broken.setdefault(holding.remedy, []).append(f"{holding.path.name} is {holding.state}")
    missing: list[tuple[str, str]] = [(command, ", ".join(reasons)) for command, reasons in broken.items()]
    if "checkpoint" not in kinds:
        missing.append(("lfm-deploy export CHECKPOINT.pth", "no checkpoint was exported here"))
    elif not workdir.graph(Precision.FP32).is_file():
        missing.append((f"lfm-deploy export {workdir.checkpoint}", "lfm.onnx is missing"))
    elif not missing:
        if ("graph", "fp16") not in precisions or "engine" not in kinds:
            what = "TensorRT engine" if ("graph", "fp16") in precisions else "FP16 graph or TensorRT engine"
            missing.append(("lfm-deploy build --fp16", f"there is no {what}"))
        if _can_be_int8(workdir) and ("graph", "int8") not in precisions:
            ranges = "ranges" in kinds
            missing.append(
                ("lfm-deploy build --int8", "there is no INT8 graph")
                if ranges
                else ("lfm-deploy calibrate IMAGES", "INT8 needs ranges")
            )
        if "report" not in kinds:
            missing.append(("lfm-deploy verify --suite SUITE", "nothing is verified"))
    return [Step(command=_place(workdir, command), why=why) for command, why in missing]


def _compare_size(holding: Holding, workdir: Workdir, holdings: list[Holding]) -> Holding:
    """The same with a note where it takes other sizes than ``lfm.onnx``: it is left from another export."""
    sizes = {other.path: other.size for other in holdings}
    exported = sizes.get(workdir.graph(Precision.FP32), "")
    if not exported or not holding.precision or holding.size == exported:
        return holding
    note = f"takes {holding.size} where lfm.onnx takes {exported}: one of them is from another export"
    return replace(holding, notes=(*holding.notes, note))


def _place(workdir: Workdir, command: str) -> str:
    return command if workdir.path == Path("deploy") else f"{command} --workdir {workdir.path}"


def _require_empty(workdir: Workdir) -> None:
    """Refuse a folder that holds other things; hidden files, such as the lock, do not count."""
    if not workdir.path.is_dir():
        export = _place(workdir, "lfm-deploy export CHECKPOINT.pth")
        raise InputError(f"{workdir.path}: no such folder; run '{export}' to make a workdir")
    names = sorted(path.name for path in workdir.path.iterdir() if not path.name.startswith("."))
    if not names:
        return
    files = [name for name in names if Path(name).suffix in (".pth", ".onnx", ".engine")]
    inner = [name for name in names if Workdir(workdir.path / name).checkpoint.is_file()]
    advice = (
        f"run 'lfm-deploy inspect {workdir.path / inner[0]}', which is one"
        if inner
        else f"name its files, such as 'lfm-deploy inspect {workdir.path / files[0]}'"
        if files
        else f"name another, or run 'lfm-deploy export CHECKPOINT.pth --workdir {workdir.path / 'deploy'}' to make one"
    )
    raise InputError(f"{workdir.path}: not a workdir: it holds no lfm.pth, graph or engine of lfm-deploy; {advice}")


def _read_checkpoint(_workdir: Workdir, path: Path) -> Holding:
    details = inspect_artifact(path)
    return Holding(
        path=path, kind="checkpoint", checkpoint=details["sha256"], runs=details["runs here"], details=details
    )


def _read_graph(workdir: Workdir, path: Path) -> Holding:
    details, info = inspect_artifact(path), read_graph_info(path)
    stale = _find_staleness(path, lambda: check_graph(workdir, path, info))
    return _typed(path, "graph", details, info.contract.size, info.precision, stale, graph_command(workdir, path, info))


def _read_engine(workdir: Workdir, path: Path) -> Holding:
    details, info = inspect_artifact(path), read_engine_info(path)
    stale = _find_staleness(path, lambda: check_engine(workdir, path, info))
    remedy = build_command(info.precision, info.gpu)
    return _typed(path, "engine", details, info.contract.size, info.precision, stale, remedy)


def _typed(
    path: Path, kind: str, details: dict[str, Any], size: int | str, precision: Precision, stale: str, remedy: str
) -> Holding:
    runs = details["runs here"]
    notes = [stale, f"does not run here: {runs.removeprefix('no: ')}" if runs.startswith("no") else ""]
    notes.append(f"INT8 for {details['INT8 for']}" if "INT8 for" in details else "")
    return Holding(
        path=path,
        kind=kind,
        precision=str(precision),
        size=_name_size(size),
        checkpoint=details["made from checkpoint"],
        runs=runs,
        state=STALE if stale else CURRENT,
        notes=tuple(note.replace(f"{path}: ", "") for note in notes if note),
        remedy=remedy,
        details=details,
    )


def _read_ranges(workdir: Workdir, path: Path) -> Holding:
    from calib.calibration import calibration_versions
    from calib.ranges import check_ranges, read_ranges

    ranges = read_ranges(path)
    graph = workdir.graph(Precision.FP32)
    stale = ""
    if graph.is_file():
        info = read_graph_info(graph)
        stale = _find_staleness(path, lambda: check_ranges(ranges, path, graph, info, calibration_versions()))
    return Holding(
        path=path,
        kind="ranges",
        size=_name_size(ranges.contract.size),
        checkpoint=ranges.checkpoint_sha256,
        state=STALE if stale else CURRENT,
        notes=(stale,) if stale else (),
        remedy=ranges.command,
        details={},
    )


def _read_report(workdir: Workdir, path: Path) -> Holding:
    """The last verification; stale where a file that it judged has changed or gone, or another has come."""
    remedy = "lfm-deploy verify --suite SUITE"
    reader = Reader(where=str(path), remedy=f"run '{remedy}' again")
    report = reader.convert(reader.read_json(path, _MOST_REPORT_BYTES), _Report, others=True)
    judged = {engine["file"]: engine["sha256"] for engine in report["engines"] if engine["kind"] != "detector"}
    headline = report["verdict"]["text"]
    files = (workdir.checkpoint, *workdir.graphs(), *workdir.engines())
    here = {file.name: sha256_of_file(file) for file in files if file.is_file()}
    changed = sorted(name for name in here if judged.get(name) != here[name]) + sorted(set(judged) - set(here))
    notes = (headline, f"stale: {', '.join(changed)} changed since") if changed else (headline,)
    return Holding(
        path=path, kind="report", state=STALE if changed else CURRENT, notes=notes, remedy=remedy, details={}
    )


def _find_staleness(path: Path, check: Callable[[], None]) -> str:
    """What a check complains of, without the name of the file; empty where it holds."""
    try:
        check()
    except ArtifactError as error:
        return _shorten(error, path)
    return ""


def _shorten(error: DeployError, path: Path) -> str:
    return str(error).removeprefix(f"{path}: ")


def _remedy_of_name(workdir: Workdir, path: Path, kind: str) -> str:
    """The command that makes a file anew which cannot say so itself any more."""
    if kind == "engine":
        parts = path.name.split(".")
        return build_command(parts[1], parts[2]) if len(parts) == 4 else ""
    if kind == "graph" and path != workdir.graph(Precision.FP32):
        cpu = path == workdir.graph(Precision.INT8, Recipe.CPU)
        return build_command(path.name.split(".")[1], recipe=Recipe.CPU if cpu else None)
    commands = {"ranges": "lfm-deploy calibrate IMAGES", "report": "lfm-deploy verify --suite SUITE"}
    return commands.get(kind, "lfm-deploy export CHECKPOINT.pth")


def _can_be_int8(workdir: Workdir) -> bool:
    graph = workdir.graph(Precision.FP32)
    try:
        check_quantisable(read_graph_info(graph).config, str(graph))
    except (ConfigError, ArtifactError):
        return False
    return True


def _name_size(size: int | str) -> str:
    return str(size) if size == "native" else f"{size}x{size}"
