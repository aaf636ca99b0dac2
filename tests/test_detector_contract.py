import textwrap

import pytest

from lfm_deploy.detectors import detector_contract
from lfm_deploy.detectors.detector_contract import Meaning, read_detector_contract
from lfm_deploy.errors import DetectorError, InputError

GOOD = """
name = "mine"
onnx = "mine.onnx"

[input]
layout = "NCHW"
dtype = "float32"
colour = "BGR"
fit = "none"
crop = 224
too_small = "pad"
mean = [0.5, 0.25, 1]
std = [2, 2, 2]

[output]
meaning = "logit"
"""


@pytest.fixture
def written(tmp_path):
    def write(text, network="mine.onnx"):
        (tmp_path / network).touch()
        path = tmp_path / "mine.toml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def test_values_and_defaults(written, tmp_path):
    found = read_detector_contract(written(GOOD))
    assert (found.name, found.onnx, found.source) == ("mine", tmp_path / "mine.onnx", "")
    taken, given = found.input, found.output
    assert (taken.layout, taken.dtype, taken.colour, taken.fit) == ("NCHW", "float32", "BGR", "none")
    assert (taken.crop, taken.side, taken.resize, taken.filter, taken.too_small) == (224, 224, None, None, "pad")
    assert (taken.scale, taken.mean, taken.std) == (1 / 255, (0.5, 0.25, 1.0), (2.0, 2.0, 2.0))
    assert (given.meaning, given.threshold, given.fake_index) == (Meaning.LOGIT, 0.0, None)
    assert taken.name is given.name is None


@pytest.mark.parametrize(
    ("geometry", "side"),
    [
        ('fit = "square"\nresize = 96\nfilter = "box"', 96),
        ('fit = "square"\nresize = 96\nfilter = "box"\ncrop = 96', 96),
        ('fit = "shorter"\nresize = 96\nfilter = "box"\ncrop = 64', 64),
        ('fit = "shorter"\nresize = 96\nfilter = "box"', None),
        ('fit = "none"', None),
        ('fit = "none"\ncrop = 64\ntoo_small = "resize"\nfilter = "nearest"', 64),
    ],
)
def test_the_side_that_every_picture_gets(written, geometry, side):
    text = GOOD.replace('fit = "none"\ncrop = 224\ntoo_small = "pad"', geometry)
    assert read_detector_contract(written(text)).input.side == side


@pytest.mark.parametrize("meaning", Meaning)
def test_thresholds_by_default_are_even_odds(written, meaning):
    index = "\nfake_index = 0" if meaning.columns == 2 else ""
    found = read_detector_contract(written(GOOD.replace('"logit"', f'"{meaning}"{index}'))).output
    assert found.threshold == (0.5 if meaning in ("probability", "softmax") else 0)


def test_what_a_score_depends_on_leaves_out_names_and_paths(written):
    first = read_detector_contract(written(GOOD)).as_dict()
    assert read_detector_contract(written(GOOD.replace('"mine"', '"other"\nsource = "x"'))).as_dict() == first
    assert read_detector_contract(written(GOOD.replace("BGR", "RGB"))).as_dict() != first


def test_the_example_in_the_docstring_is_valid(written):
    example = detector_contract.__doc__.split("\n\n", 1)[1].split("Resizing and cropping")[0]
    found = read_detector_contract(written(textwrap.dedent(example), "detector.onnx"))
    assert (found.input.resize, found.input.crop, found.output.fake_index) == (256, 224, 1)


def changed(old, new):
    assert old in GOOD
    return GOOD.replace(old, new)


BAD = {
    "unknown key": (changed("crop =", "corp ="), "input has the unknown key 'corp'; known are colour, crop, dtype"),
    "unknown table": (GOOD + "[extra]\n", "unknown key 'extra'; known are input, name, onnx, output, source"),
    "no name": (changed('name = "mine"', ""), "its content has no name"),
    "empty name": (changed('"mine"', '" "'), "name is ' ', expected text on one line"),
    "name of two lines": (changed('"mine"', '"a\\nb"'), "name is 'a\\nb', expected text on one line"),
    "no output": (changed('[output]\nmeaning = "logit"', ""), "its content has no output"),
    "a number for a table": (changed('[output]\nmeaning = "logit"', "").replace("[input]", "output = 3\n[input]"),
                             "output is 3, expected a table"),
    "no network": (changed("mine.onnx", "gone.onnx"), "onnx is 'gone.onnx', and there is no such file in"),
    "layout": (changed("NCHW", "NCWH"), "input.layout is 'NCWH', expected NCHW or NHWC"),
    "no layout": (changed('layout = "NCHW"', ""), "input has no layout"),
    "dtype": (changed("float32", "int8"), "input.dtype is 'int8', expected float16, float32 or uint8"),
    "colour": (changed("BGR", "GRB"), "input.colour is 'GRB', expected BGR or RGB"),
    "wrong type": (changed("crop = 224", 'crop = "224"'), "input.crop is '224', expected a whole number"),
    "a truth for a number": (changed("crop = 224", "crop = true"), "input.crop is True, expected a whole number"),
    "out of range": (changed("crop = 224", "crop = 0"), "input.crop is 0, expected a whole number >= 1"),
    "no choice for small ones": (changed('too_small = "pad"', ""), "input has no too_small, expected resize, pad or s"),
    "small, without crop": (changed("crop = 224", ""), "input.too_small has no effect"),
    "resize without fit": (changed("crop = 224", "crop = 224\nresize = 256"), "input.resize has no effect with fit"),
    "fit without resize": (changed('"none"', '"square"'), "input has no resize: the side in pixels for fit"),
    "crop above resize": (
        changed('fit = "none"', 'fit = "square"\nresize = 200\nfilter = "box"').replace('too_small = "pad"', ""),
        "input.crop is 224, larger than resize 200",
    ),
    "resize without filter": (changed('"pad"', '"resize"'), "input has no filter, expected nearest, box, bil"),
    "filter without resize": (changed("crop = 224", 'crop = 224\nfilter = "box"'), "input.filter has no effect here"),
    "uint8 normalised": (changed("float32", "uint8"), "input.mean has no effect on a uint8 input"),
    "two means": (changed("[0.5, 0.25, 1]", "[0.5, 0.25]"), "input.mean is [0.5, 0.25], expected a list of length 3"),
    "std of 0": (changed("[2, 2, 2]", "[2, 0, 2]"), "input.std is [2.0, 0.0, 2.0], expected three numbers above 0"),
    "endless mean": (changed("0.25", "inf"), "input.mean[1] is inf, expected a finite number"),
    "scale of 0": (changed("crop = 224", "crop = 224\nscale = 0"), "input.scale is 0"),
    "endless scale": (changed("crop = 224", "crop = 224\nscale = nan"), "input.scale is nan, expected a finite n"),
    "meaning": (changed('"logit"', '"score"'), "output.meaning is 'score', expected logit, probability, logits or s"),
    "no column": (changed('"logit"', '"softmax"'), "output has no fake_index, expected 0 or 1"),
    "third column": (changed('"logit"', '"softmax"\nfake_index = 2'), "output.fake_index is 2, expected 0 or 1"),
    "column of one": (changed('"logit"', '"logit"\nfake_index = 1'), "output.fake_index has no effect with meaning"),
    "no probability": (changed('"logit"', '"probability"\nthreshold = 1'), "output.threshold is 1, expected a prob"),
    "not TOML": ("name = mine", "not TOML (Invalid value"),
    "a key twice": (changed("crop = 224", "crop = 224\ncrop = 1"), "not TOML (Cannot overwrite a value"),
    "not UTF-8": (b'name = "\xff"', "not text in UTF-8"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_is_named_on_one_line(written, name):
    text, message = BAD[name]
    path = written(text)
    with pytest.raises(DetectorError) as caught:
        read_detector_contract(path)
    assert isinstance(caught.value, InputError)  # exit code 2
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_folder(tmp_path):
    with pytest.raises(DetectorError, match=r"cannot be read \(No such file"):
        read_detector_contract(tmp_path / "none.toml")
    with pytest.raises(DetectorError, match=r"cannot be read \(Is a directory"):
        read_detector_contract(tmp_path)
