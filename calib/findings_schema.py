"""What ``precision.json`` says of an INT8 graph, as types: the reference for programs that read it.

The report has the same values in ``quantisation``, with the histograms of the tensors beside them. Numbers are float64
where they are called float. Flips and accuracies are in per cent and percentage points, as everywhere in reports.
"""

from typing import Annotated, NotRequired, TypedDict

from msgspec import Meta

from lfm_deploy.quantisation import BudgetValues, LayerPrecision
from lfm_deploy.storage.values import Count, NotNegative, Positive, Share

Label = Annotated[int, Meta(ge=0, le=1)]


class CrossingValues(TypedDict):
    """How many logits cross a limit; None is what is no finite number.

    Attributes:
        share: estimated share of the pictures whose logit crosses it, in per cent, as a mean over sources.
        low: lower end of the 95 % interval of ``share``, over sources; over pictures where all are of one.
        high: upper end of that interval.
        worst: estimated share of the source where it is largest, in per cent.
        worst_source: name of that source.
    """

    share: NotNegative | None
    low: NotNegative | None
    high: NotNegative | None
    worst: NotNegative | None
    worst_source: str


class FlipEstimateValues(TypedDict):
    """How far a graph is from the float32 reference on some pictures; None is what is no finite number.

    Attributes:
        pictures: number of pictures.
        sources: number of sources that the pictures are of.
        flips: estimated share of changed decisions, in per cent, as a mean over sources.
        flips_low: lower end of the 95 % interval of ``flips``, over sources; over pictures where all are of one.
        flips_high: upper end of that interval.
        worst: estimated share of changed decisions of the source where it is largest, in per cent.
        worst_source: name of that source.
        acc: estimated change of accuracy, in percentage points.
        ap: estimated change of average precision, in percentage points; None also where only one class is there.
        seen_flips: number of decisions that did change, of ``pictures``.
        mean_error: mean of the absolute differences between the logits.
        band: estimate of what crosses the lower end of the band, from "real" to "uncertain" or back; missing
            without a band.
    """

    pictures: Count
    sources: Positive
    flips: NotNegative | None
    flips_low: NotNegative | None
    flips_high: NotNegative | None
    worst: NotNegative | None
    worst_source: str
    acc: float | None
    ap: float | None
    seen_flips: Count
    mean_error: NotNegative | None
    band: NotRequired[CrossingValues]


class LayerValues(TypedDict):
    """One convolution.

    Attributes:
        precision: ``"int8"``, or what is left in floating point: ``"fp16"`` for TensorRT, ``"fp32"`` for the CPU.
        why: reason for this precision, in words.
        multiply_adds: number of multiply-adds for one picture.
        only: estimate with this layer alone in INT8, on every second picture that chose.
        without: estimate with every layer but this one in INT8, on every second picture that chose.
        snr_db: signal-to-noise ratio in dB of what the layer reads, with everything in front of it quantised; None
            where not one value changes. Missing where no graph was made.
    """

    precision: LayerPrecision
    why: str
    multiply_adds: Count
    only: FlipEstimateValues
    without: FlipEstimateValues
    snr_db: NotRequired[float | None]


class TrialValues(TypedDict):
    """One choice of layers that was tried.

    Attributes:
        layers: names of the layers in INT8.
        int8_share: share of all multiply-adds that these layers do, in [0, 1].
        chosen_by: estimate on every second picture that chose.
        judged_by: estimate of each picture with the graph that was chosen without its source; None where the budget was
            broken before.
        broken: sentences, one for each part of the budget that is broken; empty where it holds.
    """

    layers: list[str]
    int8_share: Share
    chosen_by: FlipEstimateValues
    judged_by: FlipEstimateValues | None
    broken: list[str]


class LogitPairs(TypedDict):
    """Logits of the pictures; three lists of one length.

    Attributes:
        reference: logits of the float32 graph, rounded to 4 digits.
        int8: logits of the INT8 graph that was chosen without the picture's source, rounded to 4 digits.
        labels: labels, 0 real and 1 fake; where pictures have none, the reference's decisions.
    """

    reference: list[float]
    int8: list[float]
    labels: list[Label]


class CardSpeedValues(TypedDict):
    """What one card does at best with and without INT8, by the kernels that tensorrt-rtx lists.

    Attributes:
        card: name of the card, such as ``"RTX A6000"``.
        gpu: compute capability, such as ``"sm86"``.
        fp16_fps: pictures a second that the FP16 engine cannot exceed.
        int8_fps: pictures a second that the INT8 engine cannot exceed.
    """

    card: str
    gpu: str
    fp16_fps: int
    int8_fps: int


class Findings(TypedDict):
    """How one INT8 graph came about.

    Attributes:
        recipe: machine that it is for, ``"tensorrt"`` or ``"cpu"``.
        budget: allowance that it was held to.
        layers_asked: ``"search"``, ``"all"``, or names of layers with commas.
        within_budget: whether the graph holds the budget on pictures of sources that chose nothing.
        int8_share: share of all multiply-adds that are done in INT8, in [0, 1].
        layers: convolutions by name, in the order of the network.
        base: estimate of the graph without INT8.
        trials: choices in the order in which they were tried; the last one is the graph's.
        at_best: speeds at best on the cards that the layers were chosen for; empty where they were chosen by
            multiply-adds.
        logits: logits to be plotted; None where no graph was made, which no file says.
    """

    recipe: str
    budget: BudgetValues
    layers_asked: str
    within_budget: bool
    int8_share: Share
    layers: dict[str, LayerValues]
    base: FlipEstimateValues
    trials: list[TrialValues]
    at_best: list[CardSpeedValues]
    logits: LogitPairs | None


class TensorValues(TypedDict):
    """What one tensor's values are on the calibration pictures, and what INT8 keeps of them.

    Attributes:
        histogram: counts of values in equal bins.
        histogram_low: lower edge of the first bin.
        histogram_high: upper edge of the last bin.
        chosen: name of the range that was chosen, such as ``"99.99 %"``; None where its layer stays in floating point.
        kept: lowest and highest value that the range keeps; None where its layer stays in floating point.
    """

    histogram: list[int]
    histogram_low: float
    histogram_high: float
    chosen: str | None
    kept: list[float] | None


class DescribedFindings(Findings):
    """How one INT8 graph came about, as reports have it.

    Attributes:
        tensors: tensors in front of the layers, by name; empty where ``ranges.json`` is not the one that the graph was
            made with.
    """

    tensors: dict[str, TensorValues]
