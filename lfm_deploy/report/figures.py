"""How figures are written in every view: the same number of digits, the same dash for what does not exist."""

from calib.findings_schema import LayerValues
from lfm_deploy.metrics.estimate import EstimateValues
from lfm_deploy.report.engine_schema import GateValues

NONE = "-"
# What has ``value``, ``low`` and ``high``; None where the figure is undefined. Of a gate each of the three may be None.
Figure = EstimateValues | GateValues | None


def show_number(value: float | None, form: str = ".2f") -> str:
    """A number, or a dash."""
    return NONE if value is None else f"{value:{form}}"


def value_of(found: Figure) -> float | None:
    """The figure itself; None where it is undefined."""
    return None if found is None else found["value"]


def show_interval(found: Figure, form: str = ".1f") -> str:
    """The interval alone, such as ``92.8 to 95.7``; empty where there is none, or no width."""
    if found is None or found["low"] is None or found["high"] is None or found["low"] == found["high"]:
        return ""
    return f"{found['low']:{form}} to {found['high']:{form}}"


def show_estimate(found: Figure, form: str = ".1f", *, short: bool = False) -> str:
    """A figure with its interval, such as ``94.3 [92.8, 95.7]``, or ``94.3 ±1.5``.

    Args:
        found: the estimate.
        form: format of each number.
        short: give the distance to the further end of the interval instead of both ends.
    """
    if found is None:
        return NONE
    value, low, high = found["value"], found["low"], found["high"]
    if value is None or low is None or high is None or low == high:
        return show_number(value, form)
    if short:
        return f"{value:{form}} ±{max(high - value, value - low):{form.lstrip('+')}}"
    return f"{value:{form}} [{low:{form}}, {high:{form}}]"


def show_probability(value: float | None) -> str:
    """A p-value: two digits that count, and no pretence below a ten-thousandth."""
    if value is None:
        return NONE
    return "< 0.0001" if value < 1e-4 else f"{value:.2g}"


def show_share(fraction: float | None) -> str:
    """A fraction in [0, 1] in per cent."""
    return NONE if fraction is None else f"{100 * fraction:.0f} %"


def show_need(gate: GateValues) -> str:
    """How many pictures would decide a gate; empty where it is decided."""
    return "" if gate["need"] is None else f"need ≥ {gate['need']:,} pictures"


def show_decibels(layer: LayerValues) -> str:
    """A layer's signal-to-noise ratio; one without noise is exact."""
    if "snr_db" not in layer:
        return NONE
    return "exact" if layer["snr_db"] is None else f"{layer['snr_db']:.0f} dB"


def show_fps(fps: float | None) -> str:
    """Pictures a second, three digits."""
    if fps is None:
        return NONE
    return f"{fps:,.0f}" if fps >= 100 else f"{fps:.3g}"


def show_size(size: int | str) -> str:
    """What a suite's pictures are judged as."""
    return "native size" if size == "native" else f"{size} x {size} pixels"


def show_moment(at: str) -> str:
    """A time in UTC and ISO 8601, to the minute, as people write it."""
    return f"{at[:10]} {at[11:16]} UTC"
