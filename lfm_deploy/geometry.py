"""What convolutions and poolings do to sizes: the windows of a backbone, and how a picture shrinks through them.

A backbone is described once, as a list of windows from the picture to its feature map; size of the map, stride,
receptive field, layer names and multiply-adds all follow from that list.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

# ResNet-50 without its last two layers: how many bottlenecks, and the stride of the first.
RESNET_LAYERS = ((3, 1), (4, 2))
BOTTLENECK_EXPANSION = 4


@dataclass(frozen=True, slots=True)
class Window:
    """A square window that slides over a map: a convolution, or a max pooling where it has no channels.

    Attributes:
        name: name of the layer in the exported graph.
        kernel: side of the kernel, in positions.
        stride: step from one window to the next, in positions.
        padding: number of zeros at every border.
        inputs, outputs: number of channels in and out; 0 for a pooling.
    """

    name: str
    kernel: int
    stride: int = 1
    padding: int = 0
    inputs: int = 0
    outputs: int = 0

    def shrink(self, side: int) -> int:
        """Side of the map that comes out of one of ``side``; 0 where nothing does."""
        return max((side + 2 * self.padding - self.kernel) // self.stride + 1, 0)

    @property
    def weights(self) -> int:
        """How many weights a convolution has: its multiply-adds for one position."""
        return self.inputs * self.outputs * self.kernel**2


def snet_windows(widths: Sequence[int], pools: int) -> Iterator[Window]:
    """SNet: 2x2 convolutions without padding; the first ``pools`` end in a 2x2 max pooling, the last never does."""
    channels = 3
    for stage, width in enumerate(widths, start=1):
        yield Window(f"conv{stage}", 2, inputs=channels, outputs=width)
        if stage <= pools and stage < len(widths):
            yield Window(f"conv{stage}.pool", 2, stride=2)
        channels = width


def resnet_windows(widths: Sequence[int]) -> Iterator[Window]:
    """The truncated ResNet-50: a 3x3 stem of stride 2, 3x3 max pooling of stride 2, then bottlenecks.

    Args:
        widths: channels inside the bottlenecks of each layer; the stem is as wide as the first.
    """
    yield Window("conv1", 3, stride=2, padding=1, inputs=3, outputs=widths[0])
    yield Window("conv1.pool", 3, stride=2, padding=1)
    channels = widths[0]
    for layer, (width, (blocks, stride)) in enumerate(zip(widths, RESNET_LAYERS, strict=True), start=1):
        for block in range(blocks):
            name, step = f"layer{layer}.{block}", stride if block == 0 else 1
            yield Window(f"{name}.conv1", 1, inputs=channels, outputs=width)
            yield Window(f"{name}.conv2", 3, stride=step, padding=1, inputs=width, outputs=width)
            outputs = BOTTLENECK_EXPANSION * width
            yield Window(f"{name}.conv3", 1, inputs=width, outputs=outputs)
            if block == 0:
                # Its stride is that of conv2, behind which it stands here: the map has its size already.
                yield Window(f"{name}.downsample", 1, inputs=channels, outputs=outputs)
            channels = outputs


def receptive_field(windows: Sequence[Window]) -> tuple[int, int]:
    """Side of the square of the picture that one position of the map sees, and how far apart two such squares lie."""
    field, stride = 1, 1
    for window in windows:
        field += (window.kernel - 1) * stride
        stride *= window.stride
    return field, stride
