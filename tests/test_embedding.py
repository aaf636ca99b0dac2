import numpy as np
import pytest

from lfm_deploy.errors import ConfigError, InputError, ShapeError
from lfm_deploy.exploration.embedding import FEWEST, choose_perplexity, embed, measure_separation


def clusters(count=30, dimensions=40, distance=8.0):
    """Two clouds of unit width; labels 0 and 1 in turns."""
    labels = np.arange(count) % 2
    rng = np.random.default_rng(0)
    centres = np.where(labels[:, None], distance / np.sqrt(dimensions), 0)
    return (rng.normal(size=(count, dimensions)) + centres).astype(np.float32), labels


@pytest.fixture(scope="module")
def embedded():
    return embed(clusters()[0], seed=3)


def test_clouds_that_are_apart_stay_apart(embedded):
    labels = clusters()[1]
    distances = np.linalg.norm(embedded.points[:, None] - embedded.points[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    # 8 widths apart no vector has its nearest neighbour in the other cloud.
    assert (labels[distances.argmin(axis=1)] == labels).all()


def test_it_says_how_it_was_made(embedded):
    assert embedded.points.shape == (30, 2)
    assert (embedded.dimensions, embedded.components) == (40, 29)
    assert embedded.explained == pytest.approx(1)  # 29 components hold all that 30 centred vectors have
    assert embedded.perplexity == pytest.approx(29 / 3)
    assert np.isfinite(embedded.divergence)


def test_the_same_seed_gives_the_same_points(embedded):
    assert (embed(clusters()[0], seed=3).points == embedded.points).all()


def test_the_scale_of_a_value_does_not_matter(embedded):
    # A power of two rounds nothing, so that standardising must take it away exactly; values that never change weigh 0.
    scaled = clusters()[0] * 2.0 ** np.arange(-20, 20)
    vectors = np.hstack([scaled, np.full((30, 3), 7)]).astype(np.float32)
    assert embed(vectors, seed=3).points == pytest.approx(embedded.points, rel=1e-3, abs=1e-3)


@pytest.mark.parametrize(("count", "expected"), [(10, 3), (31, 10), (91, 30), (500, 30)])
def test_perplexity_follows_the_number_of_pictures(count, expected):
    assert choose_perplexity(count) == pytest.approx(expected)


def test_a_perplexity_that_fits_is_taken():
    assert choose_perplexity(100, 5) == 5


@pytest.mark.parametrize("asked", [0.5, 34, float("nan"), float("inf")])
def test_a_perplexity_that_does_not_fit_is_refused(asked):
    with pytest.raises(ConfigError, match=r"expected 1 to 33 for 100 pictures"):
        choose_perplexity(100, asked)


def test_what_cannot_be_laid_out():
    with pytest.raises(InputError, match=f"give {FEWEST} or more"):
        embed(clusters(count=9)[0])
    with pytest.raises(InputError, match="all 12 pictures give the same vector"):
        embed(np.ones((12, 5), np.float32))
    with pytest.raises(ShapeError, match="single value"):
        embed(clusters(dimensions=1)[0])


def test_separation_is_the_silhouette_score_by_its_definition():
    vectors, labels = clusters(count=14, distance=3.0)
    distances = np.sqrt(((vectors[:, None].astype(float) - vectors[None]) ** 2).sum(axis=2))
    scores = []
    for index, label in enumerate(labels):
        own = distances[index, (labels == label) & (np.arange(len(labels)) != index)].mean()
        other = distances[index, labels != label].mean()
        scores.append((other - own) / max(other, own))
    # Distances are taken through squares and products there: cancellation costs some digits.
    assert measure_separation(vectors, labels) == pytest.approx(np.mean(scores), abs=1e-6)


def test_separation_takes_labelled_pictures_of_both_classes():
    vectors, labels = clusters(count=14)
    more = np.vstack([vectors, 100 + vectors[:3]])
    assert measure_separation(more, np.append(labels, [-1] * 3)) == measure_separation(vectors, labels)
    assert measure_separation(vectors, np.zeros(14, int)) is None
    assert measure_separation(vectors, (np.arange(14) == 0).astype(int)) is None
