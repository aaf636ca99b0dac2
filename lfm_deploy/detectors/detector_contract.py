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

import tomllib
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from lfm_deploy.detectors.toml_table import TomlTable, Triple
from lfm_deploy.errors import DetectorError, first_line

LAYOUTS = ("NCHW", "NHWC")
DTYPES = ("float32", "float16", "uint8")
COLOURS = ("RGB", "BGR")
FITS = ("square", "shorter", "none")
FILTERS = ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos")
SMALL = ("resize", "pad", "skip")
_LARGEST_SIDE = 16384


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
    layout: str
    dtype: str
    colour: str
    fit: str
    resize: int | None
    filter: str | None
    crop: int | None
    too_small: str | None
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


def read_detector_contract(path: Path | str) -> DetectorContract:
    """Read and check a detector's TOML file.

    Args:
        path: path of the TOML file.

    Raises:
        DetectorError: file or network is missing, the file is not TOML, or a key is unknown, missing, of the wrong
            type, out of range or without effect; the message names file and key, and says what is allowed.
    """
    path = Path(path)
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DetectorError(f"{path}: cannot be read ({error.strerror}); expected a detector's TOML file") from None
    except ValueError as error:  # TOML's and UTF-8's
        raise DetectorError(f"{path}: not a TOML file: {first_line(error)}") from None
    top = TomlTable(values, path, "", ("name", "onnx", "source", "input", "output"))
    name = top.require("name", top.text("name"))
    onnx = path.parent / top.require("onnx", top.text("onnx"))
    if not onnx.is_file():
        top.refuse("onnx", f"is {onnx.name!r}, and there is no such file in {onnx.parent}")
    return DetectorContract(
        name=name,
        path=path,
        onnx=onnx,
        source=top.text("source") or "",
        input=_read_input(top.table("input", tuple(InputContract.__dataclass_fields__))),
        output=_read_output(top.table("output", tuple(OutputContract.__dataclass_fields__))),
    )


def _read_input(table: TomlTable) -> InputContract:
    dtype = table.required_choice("dtype", DTYPES)
    if dtype == "uint8":
        table.refuse_without_effect(["scale", "mean", "std"], "on a uint8 input, which gets pixels as they are")
    scale, std = table.number("scale"), table.triple("std")
    if scale == 0:
        table.refuse("scale", "is 0, which makes all pictures the same; expected 1, or 1/255 = 0.00392156862745098")
    if std and min(std) <= 0:
        table.refuse("std", f"is {list(std)}, expected three numbers above 0")
    return InputContract(
        name=table.text("name"),
        layout=table.required_choice("layout", LAYOUTS),
        dtype=dtype,
        colour=table.required_choice("colour", COLOURS),
        scale=1 / 255 if scale is None else scale,
        mean=table.triple("mean") or (0.0, 0.0, 0.0),
        std=std or (1.0, 1.0, 1.0),
        **_read_geometry(table),
    )


def _read_geometry(table: TomlTable) -> dict[str, Any]:
    """What is resized and cropped. Nothing is left to be guessed, and nothing that is written is without effect."""
    fit = table.required_choice("fit", FITS)
    resize, crop = table.whole("resize", 1, _LARGEST_SIDE), table.whole("crop", 1, _LARGEST_SIDE)
    if fit == "none":
        table.refuse_without_effect(["resize"], "with fit 'none'")
    elif table.require("resize", resize, f"the side in pixels for fit {fit!r}") < (crop or 1):
        table.refuse("crop", f"is {crop}, larger than resize {resize}")
    too_small = filter_name = None
    if fit == "none" and crop:
        too_small = table.required_choice("too_small", SMALL)
    else:
        table.refuse_without_effect(["too_small"], "here: no picture is smaller than a crop")
    if fit == "none" and too_small != "resize":
        table.refuse_without_effect(["filter"], "here: nothing is resized")
    else:
        filter_name = table.required_choice("filter", FILTERS)
    return {"fit": fit, "resize": resize, "filter": filter_name, "crop": crop, "too_small": too_small}


def _read_output(table: TomlTable) -> OutputContract:
    meaning = Meaning(table.required_choice("meaning", list(Meaning)))
    fake_index = table.whole("fake_index", 0, 1)
    if meaning.columns == 2:
        table.require("fake_index", fake_index, "0 or 1, the column of the class 'fake'")
    else:
        table.refuse_without_effect(["fake_index"], f"with meaning {meaning.value!r}, which has one value a picture")
    threshold = table.number("threshold")
    if threshold is None:
        threshold = 0.5 if meaning.is_probability else 0.0
    elif meaning.is_probability and not 0 < threshold < 1:
        table.refuse("threshold", f"is {threshold:g}, expected a probability between 0 and 1, like 0.5")
    return OutputContract(name=table.text("name"), meaning=meaning, fake_index=fake_index, threshold=threshold)
