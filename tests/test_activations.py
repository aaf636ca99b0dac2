import numpy as np
import onnx
import pytest

from calib.activations import ActivationReader, TensorStatistics, collect_moments
from export.names import quantisable_tensors
from lfm_deploy.pictures.photographs import sample_tiles


@pytest.fixture(scope="module")
def reader(small_graph, small_config):
    return ActivationReader(onnx.load(small_graph), quantisable_tensors(small_config))


@pytest.fixture(scope="module")
def tiles():
    return sample_tiles(256, 256, 6)


def test_the_first_tensor_is_npr_in_grey_levels(reader, tiles):
    (first, *_) = reader.read(tiles).values()
    corners = tiles[:, ::2, ::2].repeat(2, axis=1).repeat(2, axis=2)
    expected = np.abs(tiles.astype(np.int16) - corners).transpose(0, 3, 1, 2)
    assert np.array_equal(first, expected)


def test_tensors_are_what_pytorch_computes(reader, small_checkpoint, tiles):
    import torch

    from lfm_deploy.network.checkpoint import read_checkpoint
    from lfm_deploy.network.model import normalise
    from lfm_deploy.network.residuals import neighbouring_pixel_relationships

    model = read_checkpoint(small_checkpoint).build_model().eval()
    with torch.inference_mode():
        inner = model.snet.layer1(neighbouring_pixel_relationships(normalise(torch.from_numpy(tiles))))
    found = reader.read(tiles)["conv2.input"]
    # float32 with normalisation folded into the weights: 12 products a value, each rounded to 6e-8 of it.
    assert found == pytest.approx(inner.numpy(), abs=1e-5 * float(inner.max()))


def test_statistics_do_not_depend_on_batches():
    values = np.random.default_rng(0).normal(size=(10, 3, 5, 5)).astype(np.float32)
    whole = TensorStatistics(3)
    whole.add(values)
    parts = []
    for part in np.array_split(values, 4):
        parts.append(TensorStatistics(3))
        parts[-1].add(part)
    added = TensorStatistics.added(parts)
    assert np.array_equal(whole.channel_highest, values.max(axis=(0, 2, 3)))
    assert np.array_equal(whole.channel_highest, added.channel_highest)
    assert np.array_equal(whole.channel_lowest, added.channel_lowest)
    assert np.array_equal(whole.histogram.counts, added.histogram.counts)
    assert added.channels is None


def test_moments_are_those_of_random_patches(small_graph, tiles):
    everything = {"conv2.input": lambda values: values}
    narrow = ActivationReader(onnx.load(small_graph), ["conv2.input"])
    (found,) = collect_moments(narrow, [(0, tiles)], {"conv2.input": 2}, [everything], seed=0)
    found = found["conv2.input"]
    values = narrow.read(tiles)["conv2.input"].astype(np.float64)
    parts = [values[:, :, top : top - 1 or None, left : left - 1 or None] for top in (0, 1) for left in (0, 1)]
    patches = np.stack(parts, axis=2).transpose(0, 3, 4, 1, 2).reshape(-1, values.shape[1] * 4)
    exact = patches.T @ patches / len(patches)
    # 2,400 of 95,000 patches: the error of a mean over as many is 2 % of a standard deviation.
    spread = np.sqrt(((patches**2).T @ patches**2) / len(patches))
    assert np.abs(found - exact).max() < (0.1 * spread).max()
    (again,) = collect_moments(narrow, [(0, tiles)], {"conv2.input": 2}, [everything], seed=0)
    assert np.array_equal(found, again["conv2.input"])


def test_moments_are_of_what_is_kept_and_without_a_fold_of_the_others(small_graph, tiles):
    narrow = ActivationReader(onnx.load(small_graph), ["conv2.input"])
    nothing, everything = {"conv2.input": np.zeros_like}, {"conv2.input": lambda values: values}
    folds = [(0, tiles[:3]), (1, tiles[3:])]
    keep = [nothing, everything, everything]
    none, without_first, without_second = (
        found["conv2.input"] for found in collect_moments(narrow, folds, {"conv2.input": 2}, keep, seed=0)
    )
    assert not none.any()
    (both,) = (
        found["conv2.input"] for found in collect_moments(narrow, folds, {"conv2.input": 2}, [everything], seed=0)
    )
    assert (without_first + without_second) / 2 == pytest.approx(both)
    (first,) = collect_moments(narrow, folds[:1], {"conv2.input": 2}, [everything], seed=0)
    assert np.array_equal(without_second, first["conv2.input"])
