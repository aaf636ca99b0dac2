"""The forward pass of SNet with Top-K pooling by kernels of our own around cuDNN's convolutions, on a GPU's tensors.

Tensors in host memory are taken too, where Triton interprets its kernels (``TRITON_INTERPRET=1``): for tests.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from engines.fused_graph import FusedWeights
from engines.kernels.first_stage import arrange_weights, run_first_stage
from engines.kernels.judgement import run_judge
from engines.kernels.layout import ROW, Layout
from engines.kernels.pooled_convolution import run_pooled_convolution
from engines.kernels.pooling import run_pool
from engines.kernels.selection import count_lists, run_select

CUDNN = 0
"""A way to run a stage: cuDNN's convolution, then our pooling. Other ways are numbers of tiles that our own kernel,
convolution and pooling in one, has under way at once."""
OWN_WAYS = (3, 4)
_FIRST_STAGE_PROGRAMS = 24  # on one multiprocessor, in turns
_PARTS = 4  # programs that share a picture's positions where there are fewer pictures than multiprocessors


@dataclass(frozen=True, slots=True)
class Stage:
    """One convolution of SNet after the first, and what follows it.

    Attributes:
        weight: float16 ``(C_out, C_in, 2, 2)``, channels last.
        bias: float16 ``(C_out,)``.
        taps: float16 ``(4 * C_in, C_out)``, the weights as our own kernel reads them.
        wide_bias: float32 ``(C_out,)``.
        pooled: whether a 2x2 max pooling follows.
    """

    weight: Tensor
    bias: Tensor
    taps: Tensor
    wide_bias: Tensor
    pooled: bool


class Arena:
    """Memory on one device that batches of all shapes use in turns, each piece as large as it ever had to be.

    ``generation`` counts how often a piece moved: what was captured before points into memory that is gone.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pieces: dict[str, Tensor] = {}
        self.generation = 0

    def take(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """A piece of memory, float16; it holds what was last written there, or zeros."""
        count = math.prod(shape)
        if name not in self._pieces or self._pieces[name].numel() < count:
            self._pieces.pop(name, None)
            self._pieces[name] = torch.zeros(count, dtype=torch.float16, device=self._device)
            self.generation += 1
        return self._pieces[name][:count].view(shape)


@dataclass(frozen=True, slots=True)
class Buffers:
    """Maps of one shape of batch.

    Attributes:
        size: height and width of the pictures.
        ways: ways to run the stages after the first, one for each, see ``CUDNN``.
        layouts: layouts of the maps after each stage.
        maps: memory for the maps after each stage, float16 of the layout's ``shape``; None where cuDNN brings its own.
        projected: memory for the maps after the projection, float16 ``(N * positions, channels)``; None where there is
            no projection.
        lists: memory for each channel's largest values, float16 ``(N, lists of a channel, k, channels)``.
    """

    size: tuple[int, int]
    ways: tuple[int, ...]
    layouts: tuple[Layout, ...]
    maps: tuple[Tensor | None, ...]
    projected: Tensor | None
    lists: Tensor


class FusedNetwork:
    """SNet with Top-K pooling on one device."""

    def __init__(self, weights: FusedWeights, device: str) -> None:
        """Put weights on a device.

        Args:
            weights: weights of a graph, as ``read_weights`` gives them.
            device: ``"cuda:N"``, or ``"cpu"`` where kernels are interpreted.
        """
        self.config = weights.info.config
        self.device = torch.device(device)
        self.arena = Arena(self.device)
        self._cores = 1
        own = self.device.type == "cpu"
        if self.device.type == "cuda":
            properties = torch.cuda.get_device_properties(self.device)
            self._cores = properties.multi_processor_count
            own = properties.major >= 9  # tensor descriptors and wgmma
        depth, pools = self.config.depth, self.config.pools
        self._pooled = [stage < min(pools, depth - 1) for stage in range(depth)]
        first = [torch.from_numpy(array.copy()) for array in weights.convolutions[0]]
        self._first = arrange_weights(first[0], first[1], pooled=self._pooled[0]).to(self.device)
        self.stages = tuple(
            self._make_stage(torch.from_numpy(weight.copy()), torch.from_numpy(bias.copy()), pooled)
            for (weight, bias), pooled in zip(weights.convolutions[1:], self._pooled[1:], strict=True)
        )
        self.ways: tuple[int, ...] = tuple(OWN_WAYS[0] if own and stage.pooled else CUDNN for stage in self.stages)
        self._projection = None
        if weights.projection is not None:
            self._projection = torch.from_numpy(weights.projection.T.copy()).to(self.device)
        self._linear = torch.from_numpy(weights.linear.copy()).to(self.device)
        self._bias = torch.tensor([float(weights.bias)], device=self.device)

    def _make_stage(self, weight: Tensor, bias: Tensor, pooled: bool) -> Stage:
        outputs, inputs = weight.shape[:2]
        taps = weight.permute(2, 3, 1, 0).reshape(4 * inputs, outputs).contiguous()
        held = weight.to(self.device).contiguous(memory_format=torch.channels_last)
        return Stage(held, bias.to(self.device), taps.to(self.device), bias.float().to(self.device), pooled)

    def make_buffers(self, pictures: int, height: int, width: int, ways: Sequence[int] | None = None) -> Buffers:
        """Memory for batches of one shape, out of the arena.

        Args:
            pictures: number of pictures in a batch.
            height: height of the pictures in pixels, even and large enough for the architecture.
            width: width of the pictures in pixels, even and large enough for the architecture.
            ways: ways to run the stages after the first, one for each; None is ``self.ways``. Where our own kernel does
                not take a map, because it is wider than 128, cuDNN does.
        """
        chosen = list(self.ways if ways is None else ways)
        sizes = []
        rows, columns = height, width
        for pooled in self._pooled:
            rows, columns = rows - 1, columns - 1
            if pooled:
                rows, columns = rows // 2, columns // 2
            sizes.append((rows, columns))
        layouts = []
        for number, ((rows, columns), channels) in enumerate(zip(sizes, self.config.widths, strict=True)):
            if number < len(chosen) and columns > ROW:
                chosen[number] = CUDNN
            own = number < len(chosen) and chosen[number] != CUDNN
            layouts.append((Layout.in_strips if own else Layout.plain)(pictures, rows, columns, channels))
        maps = [
            self.arena.take(f"maps {number}", layout.shape) if number == 0 or self._pooled[number] else None
            for number, layout in enumerate(layouts)
        ]
        channels, positions = self.config.channels, rows * columns
        projected = None
        if self._projection is not None:
            projected = self.arena.take("projected", (pictures * positions, channels))
        count = count_lists(self.config.k, channels, 1 if pictures >= self._cores else _PARTS)
        lists = self.arena.take("lists", (pictures, count, self.config.k, channels))
        return Buffers((height, width), tuple(chosen), tuple(layouts), tuple(maps), projected, lists)

    def forward(self, job: Tensor, buffers: Buffers) -> None:
        """Queue one run on the current stream: the logits go where the job says (``engines.kernels.job``)."""
        x = self.run_first(job, buffers)
        for number in range(len(self.stages)):
            x = self.run_stage(number, x, buffers)
        last = x.view(buffers.lists.shape[0], -1, x.shape[3])
        run_select(self.project(last, buffers), buffers.lists)
        run_judge(buffers.lists, self._linear, self._bias, job)

    def run_first(self, job: Tensor, buffers: Buffers) -> Tensor:
        """The first stage's maps, as its layout has them."""
        layout = buffers.layouts[0]
        out = self.arena.take("maps 0", layout.shape)
        programs = _FIRST_STAGE_PROGRAMS * self._cores
        run_first_stage(job, buffers.size, self._first, out, layout, programs=programs)
        return out

    def run_stage(self, number: int, x: Tensor, buffers: Buffers) -> Tensor:
        """Maps of a stage after the first, of those before it; both as their layouts have them."""
        stage, way, out = self.stages[number], buffers.ways[number], buffers.maps[number + 1]
        before, after = buffers.layouts[number], buffers.layouts[number + 1]
        if way != CUDNN and out is not None:
            taps, bias = stage.taps, stage.wide_bias
            run_pooled_convolution(x, before, taps, bias, out, after, programs=self._cores, stages=way)
            return out
        maps = self._convolve(x.permute(0, 3, 1, 2), stage).permute(0, 2, 3, 1)
        if out is None:
            return maps
        run_pool(maps, out, after)
        return out

    def project(self, last: Tensor, buffers: Buffers) -> Tensor:
        """Maps ``(N, positions, C)`` that are pooled, of the last convolution's ``(N, positions, maps)``."""
        if self._projection is None or buffers.projected is None:
            return last
        flat = last.reshape(-1, last.shape[2])
        if self.device.type == "cpu":  # not every CPU multiplies float16
            buffers.projected.copy_(flat.float() @ self._projection.float())
        else:
            torch.mm(flat, self._projection, out=buffers.projected)
        return buffers.projected.view(last.shape[0], last.shape[1], -1)

    def _convolve(self, x: Tensor, stage: Stage) -> Tensor:
        """2x2 convolution and ReLU of float16 ``(N, C, H, W)``, channels last."""
        if self.device.type == "cpu":
            wide = torch.nn.functional.conv2d(x.float(), stage.weight.float(), stage.wide_bias)
            return torch.relu(wide).half().contiguous(memory_format=torch.channels_last)
        return torch.cudnn_convolution_relu(x, stage.weight, stage.bias, (1, 1), (0, 0), (1, 1), 1)
