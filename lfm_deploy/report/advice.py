"""Which precision to ship where: from what was measured there, and from kernel lists where nothing was."""

from collections.abc import Sequence

from lfm_deploy.deployment.kernel_table import advise_cards
from lfm_deploy.report.engine_schema import EngineValues
from lfm_deploy.report.findings import outcome_of

# The most exact first: what is as fast as another one, and more exact, is shipped.
_BY_EXACTNESS = ("fp32", "fp16", "bf16", "int8")


def advise(engines: Sequence[EngineValues]) -> list[str]:
    """One line for each device where several precisions ran, and for each GPU that kernels are known of.

    It names the fastest that keeps its gates, over all runtimes. What broke a gate is advised against, however fast;
    where the gates of the fastest are undecided, so is the advice.

    Args:
        engines: entries of a report's ``engines``.
    """
    devices: dict[str, list[EngineValues]] = {}
    for engine in engines:
        if engine["kind"] == "engine" and engine["not_run"] is None:
            devices.setdefault(engine["place"].partition(" on ")[2], []).append(engine)
    measured = [
        f"{device}: {_compare(found)}"
        for device, found in devices.items()
        if len({engine["precision"] for engine in found}) > 1
    ]
    tables = [
        (engine["precision"], engine["kernels"])
        for engine in engines
        if engine["kernels"] is not None and engine["not_run"] is not None
    ]
    return measured + advise_cards(tables)


def _compare(engines: list[EngineValues]) -> str:
    whole = [engine for engine in engines if outcome_of(engine) != "fails"]
    broken = sorted({_word(engine) for engine in engines} - {_word(engine) for engine in whole})
    said = f"{' and '.join(broken)} broke a gate; " if broken else ""
    if not whole:
        return f"{said}ship none of them"
    if len({engine["precision"] for engine in whole}) == 1:
        return f"{said}ship {_word(whole[0])}"
    batch = max(set.intersection(*(set(_fps(engine)) for engine in whole)), default=None)
    if batch is None:
        names = " and ".join(dict.fromkeys(_word(engine) for engine in _in_order(whole)))
        return f"{said}{names} were not timed at one batch size; measure them before you choose"
    sound = [engine for engine in whole if outcome_of(engine) == "holds"]
    best = _fastest(sound or whole, batch)
    exact = _fastest([engine for engine in whole if engine["precision"] == _in_order(whole)[0]["precision"]], batch)
    verdict = f"{said}{_describe(best, exact, batch)}"
    faster = _fastest(whole, batch)
    if outcome_of(best) != "holds":
        return f"{verdict}, but these pictures are too few to say that it holds its gates: judge it on more"
    verdict += f" and holds its gates: ship {_word(best)} here"
    if _fps(faster)[batch] > _fps(best)[batch] and faster is not best:
        ratio = _fps(faster)[batch] / _fps(best)[batch]
        verdict += f"; {faster['name']} is {ratio:.2f}x as fast as that, but these pictures are too few to judge it"
    return verdict


def _describe(best: EngineValues, exact: EngineValues, batch: int) -> str:
    if best is exact:
        return f"{best['name']} is the fastest at batch {batch}"
    ratio = _fps(best)[batch] / _fps(exact)[batch]
    return f"{best['name']} is {ratio:.2f}x as fast as {_word(exact)} at batch {batch}"


def _fastest(engines: list[EngineValues], batch: int) -> EngineValues:
    """The fastest; of equally fast ones the most exact."""
    return max(_in_order(engines), key=lambda engine: _fps(engine)[batch])


def _in_order(engines: list[EngineValues]) -> list[EngineValues]:
    return sorted(engines, key=lambda engine: _BY_EXACTNESS.index(engine["precision"]))


def _word(engine: EngineValues) -> str:
    return engine["precision"].upper()


def _fps(engine: EngineValues) -> dict[int, float]:
    """Pictures a second by batch size."""
    return {speed["batch"]: speed["fps"] for speed in engine["speeds"]}
