import pytest
import torch
from torch import nn

from lfm_deploy.geometry import Window, receptive_field, resnet_windows, snet_windows
from lfm_deploy.network.resnet import TruncatedResNet50


@pytest.mark.parametrize("side", range(1, 12))
@pytest.mark.parametrize(("kernel", "stride", "padding"), [(2, 1, 0), (2, 2, 0), (3, 2, 1), (1, 2, 0), (3, 1, 1)])
def test_a_window_shrinks_as_a_convolution_does(side, kernel, stride, padding):
    found = Window("x", kernel, stride, padding).shrink(side)
    if side + 2 * padding < kernel:
        assert found == 0
    else:
        assert nn.Conv2d(1, 1, kernel, stride, padding)(torch.zeros(1, 1, side, side)).shape[-1] == found


def test_the_windows_of_resnet_are_its_modules():
    """Names, kernels and channels of every convolution, in the order in which they run; sizes by hooks."""
    network, ran = TruncatedResNet50((2, 3)).eval(), []
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(
                lambda m, _, out, name=name: ran.append(
                    (name, m.kernel_size[0], m.stride[0], m.in_channels, m.out_channels, *out.shape[2:])
                )
            )
    network(torch.zeros(1, 3, 44, 70))
    expected, height, width = [], 44, 70
    for window in resnet_windows((2, 3)):
        height, width = window.shrink(height), window.shrink(width)
        if window.outputs:
            # A shortcut's stride is that of its block, which its window leaves out.
            stride = 2 if window.name == "layer2.0.downsample" else window.stride
            sizes = (window.kernel, stride, window.inputs, window.outputs)
            expected.append((window.name.replace("downsample", "downsample.0"), *sizes, height, width))
    assert ran == expected


def test_snet_is_pooled_after_its_first_stages_and_never_after_its_last():
    assert [w.name for w in snet_windows((4, 4), 3)] == ["conv1", "conv1.pool", "conv2"]
    names = [w.name for w in snet_windows((4,) * 5, 2)]
    assert names == ["conv1", "conv1.pool", "conv2", "conv2.pool", "conv3", "conv4", "conv5"]


def test_the_receptive_field_of_resnet_is_what_a_pixel_reaches():
    """Which pixels move one position, by the gradient through the same windows with weights of 1, sums for maxima."""
    windows = [window for window in resnet_windows((1, 1)) if not window.name.endswith("downsample")]
    layers = []
    for window in windows:
        layers.append(nn.Conv2d(1, 1, window.kernel, window.stride, window.padding, bias=False))
        layers[-1].weight.data.fill_(1)
    image = torch.zeros(1, 1, 256, 256, requires_grad=True, dtype=torch.float64)
    touched = []
    for row in (15, 16):
        nn.Sequential(*layers).double()(image)[0, 0, row, 16].backward()
        touched.append(image.grad[0, 0].nonzero())
        image.grad = None
    field, stride = receptive_field([*resnet_windows((1, 1))])
    assert (touched[0].max(0).values - touched[0].min(0).values + 1).tolist() == [field] * 2
    assert (touched[1].min(0).values - touched[0].min(0).values).tolist() == [stride, 0]
