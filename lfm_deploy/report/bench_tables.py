"""The terminal's view of a benchmark, at most 100 columns wide."""

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lfm_deploy.report.tables import make_table

_UNITS = {"bandwidth": (1e9, "GB/s"), "fp32": (1e9, "GFLOP/s"), "fp16": (1e9, "GFLOP/s"), "bf16": (1e9, "GFLOP/s")}
_INTEGERS = (1e9, "GOP/s")
_WIDTH = 100

Values = Mapping[str, Any]


def print_bench(report: Values, console: Console) -> None:
    """Machine, ceilings, speed with shares of the roofline, latency, files, and what to know before quoting."""
    for line in describe_setting(report):
        _say(console, line)
    for table in _tables(report):
        console.print()
        console.print(table, width=min(_WIDTH, console.width))
    console.print()
    _print_arithmetic(report, console)
    _print_failures(report, console)
    for line in report["advice"]:
        _say(console, line)
    for note in report["notes"]:
        _say(console, note, style="yellow")


def _tables(report: Values) -> Iterator[Table]:
    if any(report["ceilings"].values()):
        yield _ceiling_table(report)
    points = [point for _, point in _points(report)]
    if points:
        yield _speed_table(report)
        yield _latency_table(report)
    if any(point["phases"] for point in points):
        yield _phase_table(report)
    if any(engine["files"] and not engine["files"]["not_run"] for engine in report["engines"]):
        yield _file_table(report)


def describe_setting(report: Values) -> list[str]:
    """What every figure depends on, in four lines."""
    machine, settings = report["machine"], report["settings"]
    quota = "" if machine["cpu_quota"] is None else f", limited to {machine['cpu_quota']:g} cores' time"
    clock = "" if machine["clock_mhz"] is None else f", {machine['clock_mhz']:.0f} MHz"
    memory = "" if machine["memory_gib"] is None else f", {machine['memory_gib']:.0f} GiB"
    sets = " ".join(machine["instruction_sets"]) or "unknown"
    libraries = ", ".join(f"{name} {version}" for name, version in report["environment"]["libraries"].items())
    gpus = machine["gpus"]
    return [
        f"processor: {machine['processor']}, {machine['cores_allowed']} of {machine['cores']} cores{quota}{clock}"
        f"{memory}; {sets}",
        f"GPU: {gpus if isinstance(gpus, str) else '; '.join(_gpu(gpu) for gpu in gpus)}",
        f"libraries: {libraries}",
        f"measured: {settings['threads']} threads, {settings['rounds']} interleaved rounds, at least "
        f"{settings['seconds_per_point']:g} s and {settings['fewest_runs_per_point']} runs a point after warm-up, each "
        "engine in a process of its own; idle threads spin",
    ]


def _gpu(gpu: Mapping[str, str]) -> str:
    clocks = f"SM {gpu['clocks.sm']} of {gpu['clocks.max.sm']}, memory {gpu['clocks.mem']}"
    return f"{gpu['name']}, {gpu['memory.total']}, {clocks}, {gpu['power.limit']}, driver {gpu['driver_version']}"


def _ceiling_table(report: Values) -> Table:
    table = make_table("what the machine can do", "device", "ceiling")
    table.add_column("measured", justify="right", no_wrap=True)
    table.add_column("by", no_wrap=True)
    table.add_column("rounds", justify="right", no_wrap=True)
    table.add_column("others")
    for device, ceilings in report["ceilings"].items():
        for kind, ceiling in ceilings.items():
            scale, unit = _UNITS.get(kind, _INTEGERS)
            lowest, highest = min(ceiling["rounds"]) / scale, max(ceiling["rounds"]) / scale
            others = ", ".join(
                f"{name.partition(' (')[0]} {rate / scale:.0f}" for name, rate in ceiling["others"].items()
            )
            by = f"{ceiling['library']}, {ceiling['measured_with']}"
            rounds = f"{lowest:.0f}-{highest:.0f}"
            table.add_row(device, _title(kind), f"{ceiling['rate'] / scale:.0f} {unit}", by, rounds, others or "-")
    return table


def _speed_table(report: Values) -> Table:
    table = _start_table("engine alone: pixels in memory to logits")
    for heading in ("batch", "FPS", "limit", "share", "bound by", "by layer", "IQR %", "drift %", "runs", "MiB"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, point in _points(report):
        roofline = point["roofline"]
        limit = ("-", "-", "-", "-")
        if roofline is not None:
            share = "too low" if roofline["ceiling_too_low"] else f"{100 * roofline['share']:.0f} %"
            limit = (_short(roofline["fps"]), share, roofline["bound"], _short(roofline["layer_by_layer_fps"]))
        table.add_row(
            name,
            str(point["batch"]),
            _short(point["fps"]),
            *limit,
            f"{100 * point['iqr_share']:.1f}",
            f"{100 * point['rounds_share']:.1f}",
            str(point["runs"]),
            _mib(point["peak_memory_mib"]),
        )
    table.caption = (
        "limit: FPS that the best arithmetic and the bytes that must move allow; share: of it, round by round, too low "
        "where the limit was. by layer: FPS that memory allows if each layer reads and writes it; caches and fused "
        "steps beat it. IQR: of single runs, drift: between rounds, both over the median. MiB: peak of the process"
    )
    return table


def _latency_table(report: Values) -> Table:
    table = _start_table("latency of one batch, ms")
    for heading in ("batch", "mean", "p50", "p90", "p95", "p99"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, point in _points(report):
        thin = (point["runs"] < 20, point["runs"] < 100)
        figures = [_short(point[f"{part}_ms"]) for part in ("mean", "p50", "p90", "p95", "p99")]
        figures[3:] = [f"{value} *" if few else f"{value}  " for value, few in zip(figures[3:], thin, strict=True)]
        table.add_row(name, str(point["batch"]), *figures)
    table.caption = "* near the slowest run: fewer than 20 runs for p95, 100 for p99"
    return table


def _phase_table(report: Values) -> Table:
    table = _start_table("where a batch spends its time on the GPU, ms")
    for heading in ("batch", "copy in", "compute", "copy out", "enqueue", "bound by", "clock", "GPU MiB"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, point in _points(report):
        if point["phases"]:
            clock = (point["gpu_clocks"] or ["-"])[0]
            times = (_short(ms) for ms in point["phases"].values())
            table.add_row(name, str(point["batch"]), *times, point["bound_by"], clock, _mib(point["gpu_memory_mib"]))
    return table


def _file_table(report: Values) -> Table:
    table = _start_table(f"file to verdict: {report['settings']['pictures']}")
    for heading in ("batch", "FPS", "engine", "decoding", "of limit *", "bound by", "drift %", "MiB"):
        table.add_column(heading, justify="right", no_wrap=True)
    for engine in report["engines"]:
        files = engine["files"]
        if files is None or files["not_run"]:
            continue
        table.add_row(
            engine["name"],
            str(files["batch"]),
            _short(files["fps"]),
            _short(files["engine_fps"]),
            _short(files["decoding_fps"]),
            f"{100 * files['share_of_limit']:.0f} %",
            files["bound_by"],
            f"{100 * files['rounds_share']:.1f}",
            _mib(files["peak_memory_mib"]),
        )
    table.caption = (
        "* 1 / (1/engine + 1/decoding), each alone on all threads in the same rounds, as they share the cores; with "
        "the engine on a GPU the slower of the two. Idle threads do not spin here"
    )
    return table


def _start_table(title: str) -> Table:
    """A table whose first column is the engine; long names of engines wrap."""
    table = make_table(title)
    table.add_column("engine")
    return table


def _short(value: float) -> str:
    """Four digits that count, and never a power of ten."""
    return f"{value:.0f}" if value >= 1000 else f"{value:.4g}"


def _mib(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"


def _points(report: Values) -> Iterator[tuple[str, Values]]:
    """Every point with figures, with its engine's name at the first of them."""
    for engine in report["engines"]:
        name = engine["name"]
        for point in engine["points"]:
            if not point["not_run"]:
                yield name, point
                name = ""


def _print_arithmetic(report: Values, console: Console) -> None:
    reasons: dict[str, list[str]] = {}
    for engine in report["engines"]:
        if engine["arithmetic_reason"] and engine["about"]:
            reasons.setdefault(engine["arithmetic_reason"], []).append(engine["name"])
        if engine["about"] and engine["about"]["details"]:
            _say(console, f"{engine['name']}: {engine['about']['details']}")
    for reason, names in reasons.items():
        _say(console, f"{', '.join(names)}: {reason}, and is held against that ceiling")


def _print_failures(report: Values, console: Console) -> None:
    """Each reason once, with what it kept from being measured; in red what failed, dim what this machine lacks."""
    reasons: dict[tuple[str, str, str], list[str]] = {}

    def note(what: str, reason: str, name: str, style: str) -> None:
        names = reasons.setdefault((what, reason, style), [])
        names += [] if name in names else [name]

    for engine in report["engines"]:
        name, files = engine["name"], engine["files"]
        if engine["not_run"]:
            note("not run", engine["not_run"], name, "red" if engine["failed"] else "dim")
        for point in engine["points"]:
            if point["not_run"]:
                note("not run", point["not_run"], f"{name} at batch {point['batch']}", "red")
            elif point["no_roofline"]:
                note("no share of the roofline", point["no_roofline"], name, "dim")
        if files and files["not_run"]:
            note("not run", files["not_run"], f"{name} over files", "red")
        elif files and files["skipped"]:
            _say(console, f"{name}: {files['skipped']} of {files['pictures']} files could not be judged", "yellow")
    for (what, reason, style), names in reasons.items():
        _say(console, f"{what}: {', '.join(names)}: {reason}", style)


def _title(kind: str) -> str:
    return "bandwidth" if kind == "bandwidth" else kind.upper()


def _say(console: Console, line: str, style: str = "") -> None:
    console.print(Text(line, style=style), width=min(_WIDTH, console.width))
