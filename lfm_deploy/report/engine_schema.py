"""What ``report.json`` says of one engine, as types: its figures, its comparison with the reference, gates and speeds.

Shares, accuracies and average precision are in per cent, their changes in percentage points, thresholds are logits.
Numbers are float64 where they are called float. What has no finite value is null.
"""

from typing import Literal, TypedDict

from lfm_deploy.deployment.kernel_table import KernelTableValues
from lfm_deploy.metrics.estimate import EstimateValues
from lfm_deploy.quantisation import QuantisationValues

ShareName = Literal["acc", "ap"]
SpeedFigureName = Literal["fps", "latency_ms"]


class EngineValues(TypedDict):
    """One engine: what it did, or why it did not run.

    Attributes:
        name: name in reports, unique among the engines.
        kind: ``"reference"`` for the checkpoint in PyTorch, ``"engine"``, ``"decoder"`` for the reference on pictures
            that another decoder than Pillow decoded, or ``"detector"`` for a foreign one, which has no gates.
        file: name of its file, without folders.
        sha256: SHA-256 of its file, in hexadecimal.
        precision: ``"fp32"``, ``"fp16"``, ``"bf16"``, ``"int8"``; of a foreign detector, its own word.
        place: runtime and device, such as ``"onnxruntime on cpu"``.
        quantisation: ranges, layers and budget of an INT8 graph or engine; None for others.
        not_run: reason why it did not run; None where it ran. Without a run, the lists that follow are empty.
        cached: number of its logits that were known from an earlier run.
        memory: memory that it takes; None where that is not known.
        kernels: kernels of a TensorRT engine with their times at best, also where it was not run; None where its
            library lists none.
        suites: figures, one entry a suite, in the order of the report's suites.
        gates: conditions that it had to meet; empty for the reference and for detectors.
        speeds: speeds, one entry a batch size, ascending; empty where none were measured.
        pixels: differences of a decoder's pixels from Pillow's, one entry a suite; empty for all others.
    """

    name: str
    kind: str
    file: str
    sha256: str
    precision: str
    place: str
    quantisation: QuantisationValues | None
    not_run: str | None
    cached: int
    memory: "MemoryValues | None"
    kernels: KernelTableValues | None
    suites: list["SuiteResultValues"]
    gates: list["GateValues"]
    speeds: list["SpeedValues"]
    pixels: list["PixelValues"]


class PixelValues(TypedDict):
    """How a decoder's pixels differ from Pillow's over a suite, at the size at which pictures are judged.

    Attributes:
        suite: name of the suite.
        pictures: number of pictures that were compared.
        differing: number of pictures with any other pixel.
        share: share of the values that differ, in per cent.
        largest: largest difference, in levels.
        otherwise: number of pictures that only one of both can read, or that each refuses for another reason.
        samples: names of the pictures of the self-test that the decoder gives other pixels.
    """

    suite: str
    pictures: int
    differing: int
    share: float
    largest: int
    otherwise: int
    samples: list[str]


class MemoryValues(TypedDict):
    """Memory that an engine takes.

    Attributes:
        kind: ``"host"`` or ``"device"``.
        mib: size, in MiB.
        what: sentence that says what was measured or stated.
    """

    kind: str
    mib: float
    what: str


class ThresholdValues(TypedDict):
    """The threshold with the best balanced accuracy, chosen and judged on the same pictures.

    Attributes:
        threshold: threshold, a logit.
        balanced_acc: mean of the accuracies of both classes there, in per cent.
    """

    threshold: EstimateValues
    balanced_acc: EstimateValues


class FixedRateValues(TypedDict):
    """The lowest threshold that keeps to a false-positive rate; both figures are None where pictures are too few.

    Attributes:
        fpr: share of real pictures that may be called fake, in per cent.
        threshold: threshold, a logit.
        acc_fake: share of fakes found there, in per cent.
    """

    fpr: float
    threshold: EstimateValues | None
    acc_fake: EstimateValues | None


class MetricsValues(TypedDict):
    """What an engine achieves on some pictures, in per cent; None where a class is missing or a logit is no number.

    Attributes:
        acc: accuracy at the report's threshold.
        acc_real: accuracy on real pictures.
        acc_fake: accuracy on fakes.
        balanced_acc: mean of the accuracies of both classes.
        ap: average precision of the fake class, over logits.
        auc: area under the ROC curve.
        ece: expected calibration error of the logit's sigmoid.
        best_threshold: threshold with the best balanced accuracy.
        at_fpr: thresholds that keep to a false-positive rate, one entry a rate.
    """

    acc: EstimateValues | None
    acc_real: EstimateValues | None
    acc_fake: EstimateValues | None
    balanced_acc: EstimateValues | None
    ap: EstimateValues | None
    auc: EstimateValues | None
    ece: EstimateValues | None
    best_threshold: ThresholdValues | None
    at_fpr: list[FixedRateValues]


class CategoryValues(TypedDict):
    """One category of a test set; points without intervals.

    Attributes:
        name: name of the category.
        real: number of real pictures.
        fake: number of fakes.
        acc: accuracy, in per cent.
        ap: average precision, in per cent; None where a class is missing.
    """

    name: str
    real: int
    fake: int
    acc: float
    ap: float | None


class SetResultValues(MetricsValues):
    """Figures of one test set.

    Attributes:
        set: name of the test set.
        real: number of real pictures.
        fake: number of fakes.
        categories: figures of its categories, by name; empty where its pictures have none.
    """

    set: str
    real: int
    fake: int
    categories: list[CategoryValues]


class SuiteResultValues(TypedDict):
    """Figures of one suite.

    Attributes:
        suite: name of the suite.
        pictures: number of pictures that were judged.
        mean: means over the test sets that have both classes, as the paper takes them.
        pooled: figures of all pictures as one set.
        ap_of_sigmoids: average precision as the paper takes it, over float32 sigmoids, mean over test sets, in per
            cent; None for suites that are not published, and where AP is undefined.
        sets: figures of each test set.
        against: comparison with the reference; None for the reference and for foreign detectors.
    """

    suite: str
    pictures: int
    mean: MetricsValues
    pooled: MetricsValues
    ap_of_sigmoids: float | None
    sets: list[SetResultValues]
    against: "AgainstValues | None"


class LogitErrorValues(TypedDict):
    """Of the absolute differences to the reference's logits; None where a logit is no number.

    Attributes:
        max: largest.
        mean: mean.
        p50: median.
        p95: 95th percentile.
        p99: 99th percentile.
    """

    max: float | None
    mean: float | None
    p50: float | None
    p95: float | None
    p99: float | None


class FlipValues(TypedDict):
    """One picture that an engine decides otherwise than the reference.

    Attributes:
        set: name of its test set.
        path: file of the picture, as it was found.
        label: label of the picture: 0 is real, 1 is fake.
        reference: logit of the reference.
        logit: logit of the engine; None where it is no number.
        margin: logit of the reference minus the threshold.
    """

    set: str
    path: str
    label: int
    reference: float
    logit: float | None
    margin: float


class AgainstValues(TypedDict):
    """How an engine compares with the reference on the same pictures.

    Attributes:
        flips: number of decisions that differ.
        flip_rate: share of decisions that differ, in per cent.
        better: number of flips that mended a decision.
        worse: number of flips that spoilt a decision.
        mcnemar_p: p-value of a difference in accuracy, by McNemar's exact test, in [0, 1].
        delta_acc: change of the mean accuracy, in percentage points; None where it is undefined.
        delta_ap: change of the mean average precision, in percentage points; None where it is undefined.
        logit_error: sizes of the differences between the logits.
        flipped: pictures whose decisions differ, in the order of the scores.
    """

    flips: int
    flip_rate: EstimateValues
    better: int
    worse: int
    mcnemar_p: float
    delta_acc: EstimateValues | None
    delta_ap: EstimateValues | None
    logit_error: LogitErrorValues
    flipped: list[FlipValues]


class GateValues(TypedDict):
    """One condition that an engine must meet: a figure is at most ``limit``.

    Attributes:
        suite: name of the suite that it was judged on.
        name: name of the figure, with its unit.
        value: figure, in its unit; None where it does not exist.
        low: lower end of its 95 % interval; ``value`` itself where the gate is about these very pictures.
        high: upper end of its 95 % interval; ``value`` itself where the gate is about these very pictures.
        limit: largest value that is allowed, in the figure's unit.
        outcome: ``"holds"``, ``"fails"`` or ``"undecided"``.
        need: number of pictures like these that would decide it; None where it is decided, or no number would do.
        text: result of the gate in one line.
    """

    suite: str
    name: str
    value: float | None
    low: float | None
    high: float | None
    limit: float
    outcome: str
    need: int | None
    text: str


class SpeedValues(TypedDict):
    """How fast an engine judges pictures that are decoded already, copies from the host included.

    Attributes:
        batch: number of pictures handed over at a time.
        fps: pictures a second, from the median time of a run.
        latency_ms: median time of a run, in milliseconds.
        spread: interquartile range of the run times over their median.
        runs: number of runs that were timed.
        threads: number of CPU threads that were allowed.
        times_pytorch: ``fps`` over that of PyTorch in FP32 on the same device and batch; None without it.
        measured_at: time of the measurement, in UTC and ISO 8601; None where nothing says.
    """

    batch: int
    fps: float
    latency_ms: float
    spread: float
    runs: int
    threads: int
    times_pytorch: float | None
    measured_at: str | None


class TimedEngine(TypedDict):
    """What of ``EngineValues`` a plot of speeds needs.

    Attributes:
        name: name of the engine.
        speeds: speeds, one entry a batch size, ascending.
    """

    name: str
    speeds: list[SpeedValues]
