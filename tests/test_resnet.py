import torch
from torch.nn import functional as F

from lfm_deploy.network.resnet import Bottleneck, TruncatedResNet50


def test_its_keys_are_torchvisions(shared):
    published = torch.load(shared / "official" / "npr_random.pth", map_location="cpu", weights_only=True)
    expected = {name: value.shape for name, value in published.items() if not name.startswith("fc1.")}
    assert {name: value.shape for name, value in TruncatedResNet50((64, 128)).state_dict().items()} == expected


def test_a_bottleneck_in_plain_functions():
    """The paper's block with the stride in its 3x3 convolution, from the state dict alone."""
    torch.manual_seed(0)
    block = Bottleneck(5, 3, stride=2, shortcut=True).eval()
    for name, value in block.state_dict().items():
        if "bn" in name or "downsample.1" in name:
            value.copy_(torch.rand_like(value.float()) + 0.5)
    state, x = block.state_dict(), torch.randn(2, 5, 9, 8)

    def norm(maps, name):
        parts = (state[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(maps, *parts)

    y = F.relu(norm(F.conv2d(x, state["conv1.weight"]), "bn1"))
    y = F.relu(norm(F.conv2d(y, state["conv2.weight"], stride=2, padding=1), "bn2"))
    y = norm(F.conv2d(y, state["conv3.weight"]), "bn3")
    aside = norm(F.conv2d(x, state["downsample.0.weight"], stride=2), "downsample.1")
    with torch.inference_mode():
        torch.testing.assert_close(block(x), F.relu(y + aside), rtol=0, atol=0)


def test_a_bottleneck_without_a_shortcut_of_its_own_adds_what_it_read():
    block = Bottleneck(8, 2, stride=1, shortcut=False).eval()
    block.bn3.weight.data.zero_()
    x = torch.randn(1, 8, 4, 4)
    with torch.inference_mode():
        assert torch.equal(block(x), F.relu(x))
