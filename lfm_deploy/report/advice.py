"""Which precision to ship where: from what was measured there, and from kernel lists where nothing was."""

from collections.abc import Sequence

from lfm_deploy.deployment.kernel_table import advise_cards
from lfm_deploy.report.engine_schema import EngineValues
from lfm_deploy.report.findings import outcome_of


def advise(engines: Sequence[EngineValues]) -> list[str]:
    """One line for each place where INT8 and FP16 ran side by side, and for each GPU that kernels are known of.

    A place is a runtime on a device. INT8 that broke a gate, or is not faster than FP16, is advised against; where its
    gates are undecided, so is the advice.

    Args:
        engines: entries of a report's ``engines``.
    """
    places: dict[str, dict[str, list[EngineValues]]] = {}
    for engine in engines:
        if engine["kind"] == "engine" and engine["not_run"] is None:
            places.setdefault(engine["place"], {}).setdefault(engine["precision"], []).append(engine)
    measured = [
        f"{place}: {_compare(of['int8'], of['fp16'][0])}"
        for place, of in places.items()
        if "int8" in of and "fp16" in of
    ]
    tables = [
        (engine["precision"], engine["kernels"])
        for engine in engines
        if engine["kernels"] is not None and engine["not_run"] is not None
    ]
    return measured + advise_cards(tables)


def _compare(int8: list[EngineValues], fp16: EngineValues) -> str:
    whole = [engine for engine in int8 if outcome_of(engine) != "fails"]
    if not whole:
        return "INT8 broke a gate: ship FP16"
    batch = max((batch for engine in whole for batch in _fps(engine).keys() & _fps(fp16).keys()), default=None)
    if batch is None:
        return "INT8 and FP16 were not timed at one batch size; measure both before shipping INT8"
    timed = [engine for engine in whole if batch in _fps(engine)]
    best = max(timed, key=lambda engine: (outcome_of(engine) == "holds", _fps(engine)[batch]))
    ratio = _fps(best)[batch] / _fps(fp16)[batch]
    if ratio <= 1:
        return f"INT8 is not faster than FP16 here ({ratio:.2f}x at batch {batch}): ship FP16"
    faster = f"{best['name']} is {ratio:.2f}x as fast as FP16 at batch {batch}"
    if outcome_of(best) == "undecided":
        return f"{faster}, but these pictures are too few to say that it holds its budget: judge it on more"
    return f"{faster} and holds its budget: ship INT8 here"


def _fps(engine: EngineValues) -> dict[int, float]:
    """Pictures a second by batch size."""
    return {speed["batch"]: speed["fps"] for speed in engine["speeds"]}
