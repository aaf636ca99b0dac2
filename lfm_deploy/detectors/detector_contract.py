"""How a foreign ONNX detector wants its pictures, and what its answer means: a TOML file of one's own.

    name = "A detector"               # unique in a report
    onnx = "detector.onnx"            # relative to this file
    source = "where it is from"       # optional, free text

    [input]
    name = "input"                    # optional where the network has one input
    layout = "NCHW"                   # or "NHWC"
    dtype = "float32"                 # or "float16", "uint8"
    colour = "RGB"                    # or "BGR"
    fit = "shorter"                   # resize so that the shorter side is as long as resize; "square": to
                                      # resize x resize, whatever the shape; "none": leave the picture as it is
    resize = 256                      # with "shorter" and "square"
    filter = "bilinear"               # Pillow's, antialiased; also nearest, box, hamming, bicubic, lanczos
    crop = 224                        # optional: the middle of the picture, a square
    # too_small = "pad"               # with a crop and fit "none", for pictures smaller than the crop: "pad" with
                                      # black, "resize" (needs a filter) until they fit, or "skip" them
    scale = 0.00392156862745098       # optional, float inputs: (pixel * scale - mean) / std; the default is 1/255
    mean = [0.485, 0.456, 0.406]      # optional, float inputs, in the order of colour
    std = [0.229, 0.224, 0.225]

    [output]
    name = "prob"                     # optional where the network has one output
    meaning = "softmax"               # of two classes, or their "logits"; or one value, a "probability" or a "logit"
    fake_index = 1                    # with two classes: the column of "fake"
    threshold = 0.5                   # optional; above is fake; in the unit of the meaning: the default is 0.5 of a
                                      # probability or softmax, and 0 of a logit or of fake minus real logits

Resizing and cropping are those of torchvision's Resize and CenterCrop on Pillow pictures, which most detectors were
trained with. As there, EXIF orientation and colour profiles are not applied, and transparency is dropped.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta

from lfm_deploy.errors import DetectorError
from lfm_deploy.storage.complaints import matching
from lfm_deploy.storage.values import MOST_TOML_BYTES, Reader

_LARGEST_SIDE = 16384

Triple = tuple[float, float, float]
# Of what str.isprintable refuses, line breaks and control characters are what breaks tables and terminals.
Line = Annotated[str, matching(r"(?=.*\S)[^\x00-\x1f\x7f-\x9f\u2028\u2029]+", "text on one line that is not empty")]
Pixels = Annotated[int, Meta(ge=1, le=_LARGEST_SIDE)]
Layout = Literal["NCHW", "NHWC"]
Dtype = Literal["float32", "float16", "uint8"]
Colour = Literal["RGB", "BGR"]
Fit = Literal["square", "shorter", "none"]
Filter = Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]
Small = Literal["resize", "pad", "skip"]


class Meaning(StrEnum):
    """What a network's output is."""

    LOGIT = "logit"
    PROBABILITY = "probability"
    LOGITS = "logits"
    SOFTMAX = "softmax"

    @property
    def columns(self) -> int:
        """Values that it gives for a picture."""
        return 1 if self in (Meaning.LOGIT, Meaning.PROBABILITY) else 2

    @property
    def is_probability(self) -> bool:
        """Whether values are in [0, 1]."""
        return self in (Meaning.PROBABILITY, Meaning.SOFTMAX)


@dataclass(frozen=True, slots=True, kw_only=True)
class InputContract:
    """How a picture becomes an input; None is a key that is not in the file.

    Attributes:
        name: name of the network's input; None where it has one.
        layout: ``"NCHW"`` or ``"NHWC"``.
        dtype: ``"float32"``, ``"float16"`` or ``"uint8"``.
        colour: order of channels, ``"RGB"`` or ``"BGR"``.
        fit: ``"shorter"``, ``"square"`` or ``"none"``, by what becomes ``resize`` pixels long.
        resize: length in pixels of the shorter side, or of both.
        filter: name of Pillow's filter for resizing.
        crop: side in pixels of the square that is cut from the middle.
        too_small: treatment of pictures smaller than the crop: ``"pad"``, ``"resize"`` or ``"skip"``.
        scale: factor on pixels from 0 to 255, before mean and std.
        mean: values that are subtracted from the scaled channels, in the order of ``colour``.
        std: values that the channels are divided by then, in the order of ``colour``.
    """

    name: str | None
    layout: Layout
    dtype: Dtype
    colour: Colour
    fit: Fit
    resize: int | None
    filter: Filter | None
    crop: int | None
    too_small: Small | None
    scale: float
    mean: Triple
    std: Triple

    @property
    def side(self) -> int | None:
        """Side in pixels of the square that every picture becomes; None where sizes differ."""
        return self.crop or (self.resize if self.fit == "square" else None)


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputContract:
    """What a network's answer means.

    Attributes:
        name: name of the network's output; None where it has one.
        meaning: kind of the values.
        fake_index: column of "fake" where there are two classes; None where there is one value.
        threshold: value above which a picture is fake, in the unit of the meaning.
    """

    name: str | None
    meaning: Meaning
    fake_index: int | None
    threshold: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectorContract:
    """A foreign detector.

    Attributes:
        name: name in reports.
        path: path of the TOML file.
        onnx: path of the network.
        source: text on where it is from; may be empty.
        input: contract of the network's input.
        output: contract of the network's output.
    """

    name: str
    path: Path
    onnx: Path
    source: str
    input: InputContract
    output: OutputContract

    def as_dict(self) -> dict[str, Any]:
        """All that a score depends on besides the network and the picture, as plain values for JSON."""
        return {"input": asdict(self.input), "output": asdict(self.output)}


@dataclass(frozen=True, slots=True, kw_only=True)
class _InputTable:
    """The table ``[input]`` as it is written; None is a key that is not there."""

    layout: Layout
    dtype: Dtype
    colour: Colour
    fit: Fit
    name: Line | None = None
    resize: Pixels | None = None
    filter: Filter | None = None
    crop: Pixels | None = None
    too_small: Small | None = None
    scale: float | None = None
    mean: Triple | None = None
    std: Triple | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _OutputTable:
    """The table ``[output]`` as it is written; None is a key that is not there."""

    meaning: Meaning
    name: Line | None = None
    fake_index: Literal[0, 1] | None = None
    threshold: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    """A detector's file as it is written."""

    name: Line
    onnx: Line
    input: _InputTable
    output: _OutputTable
    source: Line | None = None


def read_detector_contract(path: Path | str) -> DetectorContract:
    """Read and check a detector's TOML file.

    Args:
        path: path of the TOML file.

    Raises:
        DetectorError: file or network is missing, the file is not TOML, or a key is unknown, missing, of the wrong
            type, out of range or without effect; the message names file and key, and says what is allowed.
    """
    path = Path(path)
    reader = Reader(where=str(path), remedy="expected a detector's TOML file", error=DetectorError)
    values = reader.parse_toml(reader.read_text(path, MOST_TOML_BYTES))
    reader = replace(reader, remedy="")  # each message says what is expected
    file = reader.convert(values, _File, defaults=True)
    onnx = path.parent / file.onnx
    if not onnx.is_file():
        reader.refuse(f"onnx is {onnx.name!r}, and there is no such file in {onnx.parent}")
    return DetectorContract(
        name=file.name,
        path=path,
        onnx=onnx,
        source=file.source or "",
        input=_read_input(reader, file.input),
        output=_read_output(reader, file.output),
    )


def _read_input(reader: Reader, table: _InputTable) -> InputContract:
    if table.dtype == "uint8":
        keys = ("scale", "mean", "std")
        _refuse_without_effect(reader, table, keys, "on a uint8 input, which gets pixels as they are")
    if table.scale == 0:
        reader.refuse("input.scale is 0, which makes all pictures the same; expected 1, or 1/255 = 0.00392156862745098")
    if table.std and min(table.std) <= 0:
        reader.refuse(f"input.std is {list(table.std)}, expected three numbers above 0")
    _check_geometry(reader, table)
    return InputContract(
        name=table.name,
        layout=table.layout,
        dtype=table.dtype,
        colour=table.colour,
        fit=table.fit,
        resize=table.resize,
        filter=table.filter,
        crop=table.crop,
        too_small=table.too_small,
        scale=1 / 255 if table.scale is None else table.scale,
        mean=table.mean or (0.0, 0.0, 0.0),
        std=table.std or (1.0, 1.0, 1.0),
    )


def _check_geometry(reader: Reader, table: _InputTable) -> None:
    """What is resized and cropped. Nothing is left to be guessed, and nothing that is written is without effect."""
    if table.fit == "none":
        _refuse_without_effect(reader, table, ("resize",), "with fit 'none'")
    elif table.resize is None:
        reader.refuse(f"input has no resize: the side in pixels for fit {table.fit!r}")
    elif table.resize < (table.crop or 1):
        reader.refuse(f"input.crop is {table.crop}, larger than resize {table.resize}")
    if table.fit != "none" or not table.crop:
        _refuse_without_effect(reader, table, ("too_small",), "here: no picture is smaller than a crop")
    elif table.too_small is None:
        reader.refuse("input has no too_small, expected resize, pad or skip")
    if table.fit == "none" and table.too_small != "resize":
        _refuse_without_effect(reader, table, ("filter",), "here: nothing is resized")
    elif table.filter is None:
        reader.refuse("input has no filter, expected nearest, box, bilinear, hamming, bicubic or lanczos")


def _read_output(reader: Reader, table: _OutputTable) -> OutputContract:
    meaning, threshold = table.meaning, table.threshold
    if meaning.columns == 2 and table.fake_index is None:
        reader.refuse("output has no fake_index, expected 0 or 1, the column of the class 'fake'")
    if meaning.columns == 1:
        why = f"with meaning {meaning.value!r}, which has one value a picture"
        _refuse_without_effect(reader, table, ("fake_index",), why)
    if threshold is None:
        threshold = 0.5 if meaning.is_probability else 0.0
    elif meaning.is_probability and not 0 < threshold < 1:
        reader.refuse(f"output.threshold is {threshold:g}, expected a probability between 0 and 1, like 0.5")
    return OutputContract(name=table.name, meaning=meaning, fake_index=table.fake_index, threshold=threshold)


def _refuse_without_effect(reader: Reader, table: _InputTable | _OutputTable, keys: Sequence[str], why: str) -> None:
    """Refuse keys that are given and would mean nothing."""
    where = "input" if isinstance(table, _InputTable) else "output"
    for key in keys:
        if getattr(table, key) is not None:
            reader.refuse(f"{where}.{key} has no effect {why}; remove it")
