"""ResNet-50 without its last two layers, as the baseline NPR uses it; names of parameters as in torchvision.

Source: He et al., "Deep Residual Learning" (2016), in the form that strides in the 3x3 convolution. NPR's stem is a 3x3
convolution of stride 2 in place of a 7x7 one.
"""

from collections import OrderedDict
from collections.abc import Sequence

from torch import Tensor, nn

from lfm_deploy.geometry import BOTTLENECK_EXPANSION, RESNET_LAYERS


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions around a shortcut: ``(N, inputs, h, w)`` -> ``(N, 4 * width, h', w')``."""

    def __init__(self, inputs: int, width: int, stride: int, *, shortcut: bool) -> None:
        super().__init__()
        outputs = BOTTLENECK_EXPANSION * width
        self.conv1 = nn.Conv2d(inputs, width, kernel_size=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, kernel_size=3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, kernel_size=1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module = nn.Identity()  # which has no names, like torchvision's None
        if shortcut:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, kernel_size=1, stride=stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        """``(N, inputs, h, w)`` -> ``(N, 4 * width, h', w')``."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        result: Tensor = self.relu(self.bn3(self.conv3(y)) + self.downsample(x))
        return result


class TruncatedResNet50(nn.Sequential):
    """Stem and two layers of bottlenecks: ``(N, 3, H, W)`` -> ``(N, 4 * widths[1], H/8, W/8)``, sides rounded up.

    Args:
        widths: channels inside the bottlenecks of both layers, published 64 and 128; the stem is as wide as the first.
    """

    def __init__(self, widths: Sequence[int]) -> None:
        parts: OrderedDict[str, nn.Module] = OrderedDict()
        parts["conv1"] = nn.Conv2d(3, widths[0], kernel_size=3, stride=2, padding=1, bias=False)
        parts["bn1"] = nn.BatchNorm2d(widths[0])
        parts["relu"] = nn.ReLU(inplace=True)
        parts["maxpool"] = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        inputs = widths[0]
        for layer, (width, (blocks, stride)) in enumerate(zip(widths, RESNET_LAYERS, strict=True), start=1):
            chain = [Bottleneck(inputs, width, stride, shortcut=True)]
            inputs = BOTTLENECK_EXPANSION * width
            chain += [Bottleneck(inputs, width, 1, shortcut=False) for _ in range(blocks - 1)]
            parts[f"layer{layer}"] = nn.Sequential(*chain)
        super().__init__(parts)
