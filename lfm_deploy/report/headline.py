"""The few figures that a reader takes away from a report."""

from dataclasses import dataclass

from lfm_deploy.report.engine_schema import EngineValues, ShareName
from lfm_deploy.report.figures import show_fps, show_interval, show_number, value_of
from lfm_deploy.report.findings import comparisons, engines_compared, engines_that_ran, outcome_of
from lfm_deploy.report.schema import Report


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyFigure:
    """One figure: what it is, its value, and a line that says of what."""

    name: str
    value: str
    note: str


def key_figures(report: Report) -> list[KeyFigure]:
    """Up to four: the checkpoint's accuracy and precision, decisions that changed, the fastest engine to be shipped."""
    ran = engines_that_ran(report)
    if not ran:
        return []
    found = [_metric(ran[0], "acc", "Accuracy"), _metric(ran[0], "ap", "Average precision")]
    compared = engines_compared(report)
    if compared:
        found.append(_flips(report, compared))
    sound = [engine for engine in compared if engine["speeds"] and outcome_of(engine) == "holds"]
    if sound:
        found.append(_fastest(sound))
    return found


def _metric(reference: EngineValues, key: ShareName, name: str) -> KeyFigure:
    if len(reference["suites"]) == 1:
        estimate = reference["suites"][0]["mean"][key]
        interval = show_interval(estimate)
        note = f"of the checkpoint, 95 %: {interval}" if interval else "of the checkpoint"
        return KeyFigure(name=name, value=_percent(value_of(estimate)), note=note)
    # Over several suites: the mean over all of their test sets that have both classes, as the paper takes it.
    parts = [part for suite in reference["suites"] for part in suite["sets"] if part["ap"] is not None]
    values = [value for part in parts if (value := value_of(part[key])) is not None]
    mean = sum(values) / len(values) if values else None
    return KeyFigure(name=name, value=_percent(mean), note=f"of the checkpoint, mean over {len(parts)} test sets")


def _flips(report: Report, compared: list[EngineValues]) -> KeyFigure:
    total = sum(suite["pictures"] for suite in report["suites"])
    flips = {engine["name"]: sum(against["flips"] for _, against in comparisons(engine)) for engine in compared}
    most = max(flips, key=lambda name: flips[name])
    if not flips[most]:
        return KeyFigure(name="Decisions that changed", value="0", note=f"of {total:,}, in every engine that ran")
    least = min(flips.values())
    value = str(flips[most]) if least == flips[most] else f"{least} to {flips[most]}"
    return KeyFigure(name="Decisions that changed", value=value, note=f"of {total:,}; most in {most}")


def _fastest(sound: list[EngineValues]) -> KeyFigure:
    speed, engine = max(
        ((speed, engine) for engine in sound for speed in engine["speeds"]), key=lambda pair: pair[0]["fps"]
    )
    times = speed["times_pytorch"]
    faster = "" if times is None else f", {show_number(times, '.1f')} x PyTorch"
    return KeyFigure(
        name="Fastest that holds its gates",
        value=f"{show_fps(speed['fps'])} pictures/s",
        note=f"{engine['name']}, batch {speed['batch']}{faster}",
    )


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} %"
