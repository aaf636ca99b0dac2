"""Many long vectors as points on a plane, and how far two classes of them lie apart.

Every value is standardised, so that no channel and no rank outweighs another by its scale alone; principal components
take away noise and cost; t-SNE lays out what is left. It keeps neighbours together: distances between clouds, and their
sizes, mean nothing. A figure for the separation is therefore taken from the vectors themselves.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lfm_deploy.errors import ConfigError, InputError, ShapeError

FEWEST = 10
ITERATIONS = 1000
_MOST_COMPONENTS = 50
_USUAL_PERPLEXITY = 30.0


@dataclass(frozen=True, kw_only=True)
class Embedding:
    """Points, and how they came about.

    Attributes:
        points: coordinates of the pictures on the map, float64 ``(N, 2)``.
        dimensions: number of values of each vector.
        components: number of principal components that t-SNE was given.
        explained: share of the variance of the standardised values that these components hold, in [0, 1].
        perplexity: perplexity that t-SNE was run with.
        divergence: Kullback-Leibler divergence that t-SNE ended with.
    """

    points: NDArray[np.float64]
    dimensions: int
    components: int
    explained: float
    perplexity: float
    divergence: float


def choose_perplexity(count: int, asked: float | None = None) -> float:
    """Perplexity for ``count`` pictures: 30, or a third of the others where they are few.

    A point cannot have more effective neighbours than about a third of all others: beyond that every point is every
    other one's neighbour, and the picture shows nothing.

    Raises:
        ConfigError: the perplexity that was asked for lies outside of the range that fits the number of pictures.
        InputError: there are too few pictures.
    """
    if count < FEWEST:
        raise InputError(f"t-SNE of {count} pictures would show nothing; give {FEWEST} or more that can be read")
    most = (count - 1) / 3
    if asked is None:
        return min(_USUAL_PERPLEXITY, most)
    if not 1 <= asked <= most:
        raise ConfigError(
            f"perplexity is {asked:g}, expected 1 to {most:.4g} for {count} pictures (a third of the others); "
            "leave it at auto"
        )
    return asked


def embed(vectors: NDArray[np.float32], *, perplexity: float | None = None, seed: int = 0) -> Embedding:
    """Lay vectors out on a plane; the same vectors and seed give the same points on the same machine.

    Args:
        vectors: float32 or float64 ``(N, D)``, finite.
        perplexity: perplexity of t-SNE; None chooses one, see ``choose_perplexity``.
        seed: seed of t-SNE; the start is the first two principal components, so that the seed matters next to nothing.

    Raises:
        ConfigError: the perplexity does not fit.
        InputError: there are fewer than 10 vectors, or all are the same.
        ShapeError: the vectors have a single value.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    count, dimensions = vectors.shape
    chosen = choose_perplexity(count, perplexity)
    if dimensions < 2:
        raise ShapeError("vectors with a single value need no t-SNE, expected (N, D) with D of 2 or more")
    values = vectors.astype(np.float64)
    spread = values.std(axis=0)
    if not (spread > 0).any():
        raise InputError(f"all {count} pictures give the same vector: are they one picture, or all of one colour?")
    standard = (values - values.mean(axis=0)) / np.where(spread > 0, spread, 1)
    components = PCA(min(_MOST_COMPONENTS, count - 1, dimensions), svd_solver="full")
    # One thread: sums in another order would move points, and idle threads spin where others want the cores.
    with threadpool_limits(1):
        reduced = components.fit_transform(standard)
        layout = TSNE(2, init="pca", perplexity=chosen, max_iter=ITERATIONS, random_state=seed, n_jobs=1)
        points = layout.fit_transform(reduced).astype(np.float64)
    return Embedding(
        points=points,
        dimensions=dimensions,
        components=reduced.shape[1],
        explained=float(components.explained_variance_ratio_.sum()),
        perplexity=chosen,
        divergence=float(layout.kl_divergence_),
    )


def measure_separation(vectors: NDArray[np.float32], labels: NDArray[np.integer]) -> float | None:
    """Silhouette score of real against fake, in [-1, 1]; None where a class has fewer than two vectors.

    For each vector, how much nearer it lies on average to its own class than to the other one, as a share of the
    larger of the two; then the mean. 1: two tight clusters; 0: the classes lie in each other.

    Args:
        vectors: ``(N, D)``; Euclidean distances of these are taken, as they are.
        labels: ``(N,)``; 0 is real, 1 is fake, anything else takes no part.
    """
    from sklearn.metrics import silhouette_score

    known = np.isin(labels, (0, 1))
    if min((labels == 0).sum(), (labels == 1).sum()) < 2:
        return None
    return float(silhouette_score(vectors[known].astype(np.float64), labels[known]))
