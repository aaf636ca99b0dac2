"""What ``explore.json`` says, as types: ``exploration_document`` makes it, page, plots and terminal read it.

Numbers are float64 where they are called float; names of files and test sets are text in which bytes that are no UTF-8
became replacement characters.
"""

from typing import Any, TypedDict

from lfm_deploy.environment import EnvironmentValues
from lfm_deploy.report.schema import SkippedValues


class ExplorationReport(TypedDict):
    """Everything that an exploration found, but the pixels: the whole of ``explore.json``.

    Attributes:
        format: name and number of this format; another number is another schema.
        command: command line that makes this again.
        seed: seed of the sample and of t-SNE.
        pictures: folder, list or suite that was asked for.
        checkpoint: checkpoint that was explored.
        threshold: logit above which a picture is called fake.
        counts: numbers of pictures.
        embedding: origin of the points: what t-SNE was given and how it ended.
        silhouette: silhouette score of real against fake over all vectors, in [-1, 1]; None where a class is missing.
        sets: test sets.
        examples: pictures that were looked at closely.
        no_examples: reason why there are no examples; None where they were made or not asked for.
        skipped: pictures that could not be read.
        points: pictures in the plane.
        environment: machine and libraries that the figures depend on.
    """

    format: str
    command: str
    seed: int
    pictures: str
    checkpoint: "CheckpointValues"
    threshold: float
    counts: "SampleCounts"
    embedding: "EmbeddingValues"
    silhouette: float | None
    sets: list["ExploredSet"]
    examples: list["ExampleValues"]
    no_examples: str | None
    skipped: list[SkippedValues]
    points: list["PointValues"]
    environment: EnvironmentValues


class CheckpointValues(TypedDict):
    """The checkpoint that was explored.

    Attributes:
        file: name of its file, without folders.
        sha256: SHA-256 of its file, in hexadecimal.
        layout: layout of its file, such as ``"published"`` or ``"lfm-deploy"``.
        config: architecture, as ``ModelConfig.as_dict`` gives it.
    """

    file: str
    sha256: str
    layout: str
    config: dict[str, Any]


class JudgedCounts(TypedDict):
    """Numbers of pictures that were judged.

    Attributes:
        judged: number of all.
        real: number of those labelled real.
        fake: number of those labelled fake.
        unlabelled: number of those without a label.
        right: number of those that are judged as they are labelled.
        wrong: number of those that are judged otherwise.
    """

    judged: int
    real: int
    fake: int
    unlabelled: int
    right: int
    wrong: int


class SampleCounts(JudgedCounts):
    """Numbers of pictures of the whole sample.

    Attributes:
        available: number of pictures that the sample was taken from.
        skipped: number of pictures of the sample that could not be read.
    """

    available: int
    skipped: int


class EmbeddingValues(TypedDict):
    """How the points came about.

    Attributes:
        vectors: name of the vectors for people, such as TKP vectors.
        method: sentence about the method.
        preparation: sentence about what was done to the vectors before.
        dimensions: number of values of a vector.
        components: number of principal components that t-SNE was given.
        explained: share of the variance of the standardised values that they hold, in [0, 1].
        perplexity: perplexity of t-SNE.
        iterations: largest number of iterations of t-SNE.
        kl_divergence: Kullback-Leibler divergence that t-SNE ended with.
    """

    vectors: str
    method: str
    preparation: str
    dimensions: int
    components: int
    explained: float
    perplexity: float
    iterations: int
    kl_divergence: float


class ExploredSet(JudgedCounts):
    """One test set.

    Attributes:
        set: name of the test set.
        silhouette: silhouette score of real against fake over its vectors, in [-1, 1]; None where a class is missing.
    """

    set: str
    silhouette: float | None


class JudgedPicture(TypedDict):
    """One picture and what became of it.

    Attributes:
        path: file of the picture.
        set: name of its test set.
        label: label of the picture: 0 is real, 1 is fake; None where it has none.
        logit: logit; above the threshold is fake.
        verdict: ``"real"`` or ``"fake"``.
        right: whether the verdict is the label; None where it has none.
    """

    path: str
    set: str
    label: int | None
    logit: float
    verdict: str
    right: bool | None


class PointValues(JudgedPicture):
    """One picture in the plane.

    Attributes:
        x: first coordinate; it has no unit.
        y: second coordinate, upwards; it has no unit.
    """

    x: float
    y: float


class ExampleValues(JudgedPicture):
    """One picture that was looked at closely.

    Attributes:
        kind: kind of example, such as the surest fakes.
        most_selected: largest number of the vector's values that one position of the picture gave.
    """

    kind: str
    most_selected: int
