"""The machine's own limits: the best that any installed library does, measured in the same rounds as the engines."""

import importlib.util
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lfm_deploy.benchmark.roofline import BANDWIDTH
from lfm_deploy.machine import has_amx

_CPU_LIBRARIES = ("numpy", "torch", "onnxruntime")
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceiling:
    """What a machine can do, in operations or bytes per second.

    Attributes:
        kind: precision of the arithmetic, or ``"bandwidth"``.
        library: name of the library whose code was fastest, by the median of the rounds.
        what: shape of the product, or size of the copy, that was fastest, by the median of the rounds.
        rounds: best rate in every round, of whatever library and shape, in operations or bytes per second.
        others: best median rates of the other libraries, by name, in the same unit.
    """

    kind: str
    library: str
    what: str
    rounds: tuple[float, ...]
    others: dict[str, float]

    @property
    def rate(self) -> float:
        """Median of the rounds, in operations or bytes per second."""
        return statistics.median(self.rounds)


def list_libraries(device: str) -> list[str]:
    """Libraries that can measure ceilings on a device, by what is installed.

    Args:
        device: ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.
    """
    if device != "cpu":
        return ["torch"]
    found = [name for name in _CPU_LIBRARIES if importlib.util.find_spec(name) is not None]
    return [*found, "amx"] if has_amx() and importlib.util.find_spec("numba") is not None else found


def thread_variables(threads: int) -> dict[str, str]:
    """Environment variables that limit the threads of BLAS libraries; they are read when a library is loaded.

    Args:
        threads: number of threads that are allowed.
    """
    return dict.fromkeys(_THREAD_VARIABLES, str(threads))


def choose_ceilings(rates: Mapping[str, Sequence[Sequence[tuple[str, str, float]]]]) -> dict[str, Ceiling]:
    """The best of all libraries and shapes, by kind.

    Args:
        rates: measured cases by library and round: kind, shape, and operations or bytes per second.
    """
    found: dict[str, dict[tuple[str, str], list[float]]] = {}
    best: dict[str, dict[int, float]] = {}
    for library, rounds in rates.items():
        for index, part in enumerate(rounds):
            for kind, what, rate in part:
                found.setdefault(kind, {}).setdefault((library, what), []).append(rate)
                in_round = best.setdefault(kind, {})
                in_round[index] = max(rate, in_round.get(index, 0.0))
    ceilings = {}
    for kind, cases in found.items():
        medians = {case: statistics.median(values) for case, values in cases.items()}
        library, what = max(medians, key=lambda case: medians[case])
        others = {
            name: max(rate for (owner, _), rate in medians.items() if owner == name)
            for name in dict.fromkeys(owner for owner, _ in medians)
            if name != library
        }
        ceilings[kind] = Ceiling(
            kind=kind, library=_plain_name(library, kind), what=what, rounds=tuple(best[kind].values()), others=others
        )
    return ceilings


def _plain_name(library: str, kind: str) -> str:
    """Copies are not done by the BLAS that stands in brackets."""
    return library.partition(" (")[0] if kind == BANDWIDTH else library
