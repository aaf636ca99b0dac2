"""Which precision to ship where, from what was measured there; nothing is said of a device that measured nothing."""

from lfm_deploy.artifacts import Precision
from lfm_deploy.verification import EngineResult, Verification


def advise(verification: Verification) -> list[str]:
    """One line for each place where INT8 and FP16 ran side by side: is INT8 worth its errors there?

    A place is a runtime on a device. INT8 that broke a gate, or is not faster than FP16, is advised against.
    """
    places: dict[str, dict[Precision, list[EngineResult]]] = {}
    for engine in verification.compared:
        places.setdefault(engine.place, {}).setdefault(engine.precision, []).append(engine)
    lines = []
    for place, engines in places.items():
        if Precision.INT8 in engines and Precision.FP16 in engines:
            lines.append(f"{place}: {_compare(engines[Precision.INT8], engines[Precision.FP16][0])}")
    return lines


def _compare(int8: list[EngineResult], fp16: EngineResult) -> str:
    sound = [engine for engine in int8 if not engine.failed]
    if not sound:
        return "INT8 broke a gate: ship FP16"
    timed = [engine for engine in sound if engine.speeds]
    if not timed or not fp16.speeds:
        return "the speed of INT8 was not measured; measure it before shipping INT8"
    batch = max({speed.batch for speed in timed[0].speeds} & {speed.batch for speed in fp16.speeds})
    best = max(timed, key=lambda engine: _fps(engine, batch))
    ratio = _fps(best, batch) / _fps(fp16, batch)
    if ratio <= 1:
        return f"INT8 is not faster than FP16 here ({ratio:.2f}x at batch {batch}): ship FP16"
    return f"{best.name} is {ratio:.2f}x as fast as FP16 at batch {batch} and holds its budget: ship INT8 here"


def _fps(engine: EngineResult, batch: int) -> float:
    return next(speed.fps for speed in engine.speeds if speed.batch == batch)
