import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lfm_deploy.config import NPR, ModelConfig, Pooling, ValueOrder
from lfm_deploy.errors import CheckpointError
from lfm_deploy.network.checkpoint import read_checkpoint, write_checkpoint
from lfm_deploy.network.model import LFM


@pytest.fixture
def published(official_checkpoint):
    return torch.load(official_checkpoint, map_location="cpu", weights_only=True)


def refused(path, *complaints):
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(path)
    message = str(caught.value)
    assert caught.value.exit_code == 2
    assert str(path) in message
    assert "\n" not in message
    for complaint in complaints:
        assert complaint in message


def test_the_published_layout(official_checkpoint):
    checkpoint = read_checkpoint(official_checkpoint)
    assert checkpoint.layout == "published"
    assert checkpoint.config == ModelConfig(order=ValueOrder.DESCENDING)
    assert not checkpoint.build_model().training


def test_our_own_layout_round_trip(tmp_path):
    config = ModelConfig(widths=(4, 8), projection=2, k=3, order=ValueOrder.ASCENDING)
    model = LFM(config)
    write_checkpoint(tmp_path / "own.pth", model, recipe={"epochs": 3}, metrics={"ap": 0.5})
    checkpoint = read_checkpoint(tmp_path / "own.pth")
    assert (checkpoint.config, checkpoint.recipe, checkpoint.metrics) == (config, {"epochs": 3}, {"ap": 0.5})
    again = checkpoint.build_model().state_dict()
    assert all(torch.equal(again[name], value) for name, value in model.state_dict().items())


def test_a_missing_file_and_a_folder(tmp_path):
    refused(tmp_path / "none.pth", "no such file")
    refused(tmp_path, "no such file")


def test_an_empty_file(tmp_path):
    (tmp_path / "empty.pth").touch()
    refused(tmp_path / "empty.pth", "empty")


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.99])
def test_a_truncated_file(small_checkpoint, tmp_path, kept):
    content = small_checkpoint.read_bytes()
    (tmp_path / "cut.pth").write_bytes(content[: int(len(content) * kept)])
    refused(tmp_path / "cut.pth", "damaged")


class Attack:
    """A pickle that leaves a trace when it is loaded."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return (Path.touch, (self.trace,))


@pytest.mark.parametrize("save", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))])
def test_pickled_code_is_refused_and_does_not_run(tmp_path, save):
    trace = tmp_path / "the code ran"
    save({"fc1.weight": Attack(trace)}, tmp_path / "attack.pth")
    refused(tmp_path / "attack.pth", "can run code")
    assert not trace.exists()


def test_a_whole_pickled_model_says_what_to_save_instead(tmp_path):
    torch.save(LFM(ModelConfig(widths=(4,), projection=2, k=2)), tmp_path / "model.pth")
    refused(tmp_path / "model.pth", "state_dict()")


def test_a_text_file(tmp_path):
    (tmp_path / "notes.pth").write_text("not a checkpoint\n")
    refused(tmp_path / "notes.pth", "not a PyTorch checkpoint")


def test_npr_in_its_published_layout(shared):
    checkpoint = read_checkpoint(shared / "official" / "npr_random.pth")
    assert (checkpoint.layout, checkpoint.config) == ("published", NPR)


def test_a_network_of_no_known_layout_says_what_was_expected(tmp_path):
    layers = {f"blocks.{index}.weight": torch.zeros(1) for index in range(6)}
    torch.save(layers | {"fc1.weight": torch.zeros(1), "fc1.bias": torch.zeros(1)}, tmp_path / "x.pth")
    refused(tmp_path / "x.pth", "LFM (cnn.layer1", "NPR (conv1.weight", "found blocks.0.weight", "and 4 more")


def test_the_whole_of_resnet50_is_not_npr(shared, tmp_path):
    state = torch.load(shared / "official" / "npr_random.pth", weights_only=True)
    state |= {"fc.weight": state.pop("fc1.weight"), "layer3.0.conv1.weight": torch.zeros(1)}
    torch.save(state, tmp_path / "x.pth")
    refused(tmp_path / "x.pth", "not a checkpoint of NPR: missing fc1.weight", "unexpected fc.weight, layer3.0.conv1")


def test_our_own_layout_of_before_there_were_other_architectures(small_checkpoint, small_config, tmp_path):
    content = torch.load(small_checkpoint, weights_only=True)
    content["config"] = {name: content["config"][name] for name in ("widths", "projection", "k", "order")}
    torch.save(content, tmp_path / "old.pth")
    assert read_checkpoint(tmp_path / "old.pth").config == small_config


def test_our_own_layout_of_another_architecture(tmp_path):
    config = replace(NPR, widths=(2, 3), pooling=Pooling.ATTENTION, projection=4)
    model = LFM(config)
    write_checkpoint(tmp_path / "own.pth", model)
    checkpoint = read_checkpoint(tmp_path / "own.pth")
    assert checkpoint.config == config
    assert checkpoint.state.keys() == model.state_dict().keys()
    checkpoint.build_model()


def test_something_that_is_no_dict(tmp_path):
    torch.save([torch.zeros(3)], tmp_path / "list.pth")
    refused(tmp_path / "list.pth", "holds a list")


def test_missing_unexpected_and_misshapen_keys_are_all_named(published, tmp_path):
    del published["fc1.bias"]
    published["extra"] = torch.zeros(1)
    published["fc1.weight"] = torch.zeros(1, 1000)
    torch.save(published, tmp_path / "x.pth")
    refused(tmp_path / "x.pth", "missing fc1.bias", "unexpected extra", "fc1.weight is (1, 1000), expected (1, 1024)")


@pytest.mark.parametrize("kernel", ["downsample_conv.weight", "upsample_conv.weight"])
def test_a_kernel_that_is_not_one_hot_is_another_npr(published, tmp_path, kernel):
    published[kernel][0, 0, 1, 1] = 0.5
    torch.save(published, tmp_path / "x.pth")
    refused(tmp_path / "x.pth", kernel, "not the one-hot kernel")


def test_weights_that_are_no_numbers(published, tmp_path):
    published["cnn.layer2.0.weight"][0, 0, 0, 0] = float("nan")
    torch.save(published, tmp_path / "x.pth")
    refused(tmp_path / "x.pth", "NaN or infinite values in cnn.layer2.0.weight")


def test_a_bad_header_of_our_own(small_checkpoint, tmp_path):
    content = torch.load(small_checkpoint, weights_only=True)
    content["config"]["k"] = -1
    torch.save(content, tmp_path / "x.pth")
    refused(tmp_path / "x.pth", "bad header")
