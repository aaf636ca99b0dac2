"""Foreign detectors of several layouts, each against PyTorch and NumPy with pre-processing of their own."""

import json
import re
import shutil

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from foreign_answers import score
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from engines.cpu_settings import default_settings
from engines.loading import load_engine
from export.graph import ExportConfig, make_graph
from lfm_deploy.artifacts import InputForm
from lfm_deploy.detectors.detector_contract import read_detector_contract
from lfm_deploy.detectors.foreign import ForeignDetector, open_detectors
from lfm_deploy.detectors.foreign_scores import detector_reading, make_detector_scorer
from lfm_deploy.errors import ArtifactError, DetectorError
from lfm_deploy.network.checkpoint import read_checkpoint
from lfm_deploy.pictures.images import read_image
from lfm_deploy.pictures.photographs import load_photographs
from lfm_deploy.pictures.resizing import resize_picture
from lfm_deploy.storage.graph_file import seal_graph

SETTINGS = default_settings(threads=2)
SIZES = [(96, 80), (64, 64), (131, 90), (70, 111), (48, 200), (96, 80), (96, 80)]
TYPES = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16, "uint8": TensorProto.UINT8}


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """PNG files of several sizes, in no order of size."""
    folder = tmp_path_factory.mktemp("photographs")
    paths = []
    for index, (width, height) in enumerate(SIZES):
        pixels = load_photographs()[index % 2][40 * index :, 60 * index :][:height, :width]
        assert pixels.shape == (height, width, 3)
        paths.append(folder / f"{index}.png")
        Image.fromarray(pixels).save(paths[-1])
    return paths


class Network:
    """Convolution, ReLU, mean over the picture, linear layer: as an ONNX file and in PyTorch, with the same weights."""

    def __init__(self, outputs):
        rng = np.random.default_rng(7)
        self.kernel = rng.normal(size=(8, 3, 3, 3)).astype(np.float32)
        self.weight = rng.normal(size=(outputs, 8)).astype(np.float32)
        self.bias = rng.normal(size=outputs).astype(np.float32)

    def write(self, path, *, layout="NCHW", dtype="float32", sides=("h", "w"), batch="n", scale=1.0, head=()):
        shape = [batch, 3, *sides] if layout == "NCHW" else [batch, *sides, 3]
        nodes = [helper.make_node("Cast", ["input"], ["real"], to=TensorProto.FLOAT)]
        nodes.append(helper.make_node("Mul", ["real", "scale"], ["scaled"]))
        order = [0, 1, 2, 3] if layout == "NCHW" else [0, 3, 1, 2]
        nodes.append(helper.make_node("Transpose", ["scaled"], ["planes"], perm=order))
        nodes.append(helper.make_node("Conv", ["planes", "kernel"], ["conv"], strides=[2, 2]))
        nodes.append(helper.make_node("Relu", ["conv"], ["relu"]))
        nodes.append(helper.make_node("GlobalAveragePool", ["relu"], ["pool"]))
        nodes.append(helper.make_node("Flatten", ["pool"], ["flat"]))
        nodes.append(helper.make_node("Gemm", ["flat", "weight", "bias"], ["linear"], transB=1))
        last = "linear"
        for name in head:
            nodes.append(helper.make_node(name, [last], [f"{last}.{name}"]))
            last = f"{last}.{name}"
        weights = {"kernel": self.kernel, "weight": self.weight, "bias": self.bias, "scale": np.float32(scale)}
        graph = helper.make_graph(
            nodes,
            "detector",
            [helper.make_tensor_value_info("input", TYPES[dtype], shape)],
            [helper.make_tensor_value_info(last, TensorProto.FLOAT, [batch, len(self.bias)])],
            [numpy_helper.from_array(value, name) for name, value in weights.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        onnx.checker.check_model(model)
        onnx.save(model, path)

    def __call__(self, planes):
        """float64 ``(N, outputs)`` of ``(N, 3, H, W)``."""
        values = torch.as_tensor(np.ascontiguousarray(planes)).double()
        features = F.conv2d(values, torch.from_numpy(self.kernel).double(), stride=2).relu().mean((2, 3))
        weight, bias = torch.from_numpy(self.weight).double(), torch.from_numpy(self.bias).double()
        return (features @ weight.T + bias).numpy()


@pytest.fixture
def described(tmp_path):
    """Writes a TOML file for ``network.onnx`` in the same folder, and opens it."""

    def describe(taken, given, name="mine", file="mine.toml", network="network.onnx"):
        lines = [f'name = "{name}"', f'onnx = "{network}"']
        for table, values in (("input", taken), ("output", given)):
            lines += [f"[{table}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items())]
        (tmp_path / file).write_text("\n".join(lines))
        return ForeignDetector(read_detector_contract(tmp_path / file), settings=SETTINGS, spin=False)

    return describe


def pixels_of(path):
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
# float32 sums over 27 products and some thousand positions, of features of a few units, against float64.
TOLERANCE = 2e-5


def test_float_nchw_resized_cropped_and_normalised_with_a_logit(photographs, described, tmp_path):
    network = Network(1)
    network.write(tmp_path / "network.onnx", sides=(56, 56))
    detector = described(
        {"layout": "NCHW", "dtype": "float32", "colour": "RGB", "fit": "shorter", "resize": 64, "filter": "bilinear",
         "crop": 56, "mean": MEAN.tolist(), "std": STD.tolist()},
        {"meaning": "logit", "threshold": 0.25},
    )  # fmt: skip
    expected = []
    for path in photographs:
        with Image.open(path) as picture:
            width, height = picture.size
            factor = 64 / min(width, height)
            resized = np.asarray(picture.resize((int(width * factor), int(height * factor)), Image.Resampling.BILINEAR))
        top, left = round((resized.shape[0] - 56) / 2), round((resized.shape[1] - 56) / 2)
        middle = (resized[top : top + 56, left : left + 56] / 255 - MEAN) / STD
        expected.append(network(middle.transpose(2, 0, 1)[None])[0, 0] - 0.25)
    found, reasons = score(detector, photographs, batch=3)
    assert found.dtype == np.float64
    assert reasons == {}
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE)
    assert np.ptp(found) > 100 * TOLERANCE  # pictures differ by far more than the tolerance


def test_uint8_nhwc_bgr_of_any_size_with_a_probability(photographs, described, tmp_path):
    network = Network(1)
    network.write(tmp_path / "network.onnx", layout="NHWC", dtype="uint8", scale=1 / 255, head=("Sigmoid",))
    detector = described(
        {"name": "input", "layout": "NHWC", "dtype": "uint8", "colour": "BGR", "fit": "none"},
        {"meaning": "probability", "threshold": 0.75},
    )
    planes = [pixels_of(path)[..., ::-1].transpose(2, 0, 1)[None] / 255 for path in photographs]
    expected = np.array([network(plane)[0, 0] for plane in planes]) - np.log(3)
    found, reasons = score(detector, photographs, batch=4)
    assert reasons == {}
    # A probability in float32 has a step of up to 2^-24, which is that over p (1 - p) in log-odds: at least 0.01 here.
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE + 2**-24 / 0.01)
    assert detector.threshold_logit == pytest.approx(np.log(3))


@pytest.mark.parametrize(("fake_index", "head"), [(1, "Softmax"), (0, "Softmax"), (0, "Identity")])
def test_two_classes_on_a_square_resize(photographs, described, tmp_path, fake_index, head):
    network = Network(2)
    network.write(tmp_path / "network.onnx", layout="NHWC", sides=(48, 48), head=(head,))
    detector = described(
        {"layout": "NHWC", "dtype": "float32", "colour": "BGR", "fit": "square", "resize": 48, "filter": "bicubic",
         "scale": 2 / 255, "mean": [1, 1, 1]},
        {"meaning": "softmax" if head == "Softmax" else "logits", "fake_index": fake_index},
    )  # fmt: skip
    expected = []
    for path in photographs:
        with Image.open(path) as picture:
            values = np.asarray(resize_picture(picture, 48, 48, Image.Resampling.BICUBIC)) / 127.5 - 1
        logits = network(values[..., ::-1].transpose(2, 0, 1)[None])[0]
        expected.append(logits[fake_index] - logits[1 - fake_index])
    found, _ = score(detector, photographs)
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE)


def test_half_precision_on_a_padded_crop(photographs, described, tmp_path):
    network = Network(1)
    network.write(tmp_path / "network.onnx", dtype="float16", sides=(72, 72))
    detector = described(
        {"layout": "NCHW", "dtype": "float16", "colour": "RGB", "fit": "none", "crop": 72, "too_small": "pad"},
        {"meaning": "logit"},
    )
    found, _ = score(detector, photographs[1:2])
    planes = np.pad(pixels_of(photographs[1]), ((4, 4), (4, 4), (0, 0))).transpose(2, 0, 1)[None] / 255
    expected = network(planes.astype(np.float16))  # rounded once more, and exact from there
    np.testing.assert_allclose(found, expected[:, 0], rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("batch", [1, 4])
def test_a_fixed_batch_is_filled_up_and_changes_nothing(photographs, described, tmp_path, batch):
    taken = {"layout": "NCHW", "dtype": "float32", "colour": "RGB", "fit": "square", "resize": 40, "filter": "box"}
    network = Network(1)
    network.write(tmp_path / "network.onnx", sides=(40, 40))
    expected, _ = score(described(taken, {"meaning": "logit"}), photographs)
    network.write(tmp_path / "network.onnx", sides=(40, 40), batch=batch)
    found, _ = score(described(taken, {"meaning": "logit"}), photographs, batch=6)
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE)


def check_lfm(detector, side, photographs, tolerance):
    engine = load_engine(detector.path, threads=2, spin=False)
    expected = engine.logits(np.stack([read_image(path, side) for path in photographs]))
    found, _ = score(detector, photographs)
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)
    assert np.ptp(found) > 1


SQUARE = {"colour": "RGB", "fit": "square", "filter": "bilinear"}


def test_lfm_itself_described_as_a_foreign_detector(small_graph, photographs, described, tmp_path):
    shutil.copy(small_graph, tmp_path / "network.onnx")
    detector = described(SQUARE | {"layout": "NHWC", "dtype": "uint8", "resize": 256}, {"meaning": "logit"})
    check_lfm(detector, 256, photographs, tolerance=0)  # the same bytes in the same network


def test_lfm_exported_for_normalised_pictures_described_as_a_foreign_detector(
    small_checkpoint, photographs, described, tmp_path
):
    graph = make_graph(read_checkpoint(small_checkpoint), ExportConfig(size=64, input=InputForm.FLOAT))
    (tmp_path / "network.onnx").write_bytes(seal_graph(graph))
    normalised = {"layout": "NCHW", "dtype": "float32", "resize": 64, "mean": MEAN.tolist(), "std": STD.tolist()}
    detector = described(SQUARE | normalised, {"name": "logit", "meaning": "logit"})
    # The engine divides and subtracts in float32, a detector looks up: inputs of up to 2.7 differ by some 2^-22, and
    # weights of up to 60 in the linear layer carry that to the logit.
    check_lfm(detector, 64, photographs, tolerance=1e-3)


@pytest.fixture
def plain(described, tmp_path):
    """A detector that takes any size, with a logit."""
    Network(1).write(tmp_path / "network.onnx")
    return described({"layout": "NCHW", "dtype": "float32", "colour": "RGB", "fit": "none"}, {"meaning": "logit"})


def test_pictures_that_cannot_be_judged_have_reasons_and_move_no_other(photographs, plain, tmp_path):
    (tmp_path / "text.png").write_text("text")
    (tmp_path / "empty.png").touch()
    Image.new("RGB", (2, 2)).save(tmp_path / "tiny.png")
    others = [tmp_path / name for name in ("text.png", "empty.png", "tiny.png", "gone.png")]
    mixed = [others[0], *photographs[:3], others[1], others[2], *photographs[3:], others[3]]
    found, reasons = score(plain, mixed, batch=3)
    expected, none = score(plain, photographs, batch=3)
    assert none == {}
    assert reasons.keys() == {0, 4, 5, 10}
    assert reasons[0] == "cannot be read: not a picture of a known format"
    assert reasons[4] == "the file is empty"
    assert re.match("the network does not take 2x2 pixels: .", reasons[5])
    assert "\n" not in reasons[5]
    assert reasons[10] == "no such file"
    kept = [index for index in range(len(mixed)) if index not in reasons]
    assert np.isnan(np.delete(found, kept)).all()
    np.testing.assert_allclose(found[kept], expected, rtol=0, atol=TOLERANCE)


def test_groups_are_of_one_size_and_come_in_order(photographs, plain):
    groups = list(detector_reading(plain, batch=4).read(photographs, None))
    assert [group.indices for group in groups] == [[0], [1], [2], [3], [4], [5, 6]]  # the last two are of one size
    found, _ = score(plain, photographs, batch=4)
    assert [logit for group in groups for logit in plain.logits(group.images)] == found.tolist()


def test_no_pictures_give_no_logits(plain):
    found, reasons = score(plain, [])
    assert (found.shape, reasons) == ((0,), {})


def test_an_answer_that_is_no_number_is_a_reason(photographs, described, tmp_path):
    network = Network(1)
    network.bias[:] = np.nan
    network.write(tmp_path / "network.onnx")
    detector = described({"layout": "NCHW", "dtype": "float32", "colour": "RGB", "fit": "none"}, {"meaning": "logit"})
    found, reasons = score(detector, photographs[:1])
    assert np.isnan(found).all()
    assert reasons == {0: "the network's answer is not a finite number"}


def test_logits_that_are_called_probabilities_are_refused(photographs, described, tmp_path):
    Network(1).write(tmp_path / "network.onnx")
    taken = {"layout": "NCHW", "dtype": "float32", "colour": "RGB", "fit": "none", "scale": 1}
    with pytest.raises(DetectorError, match=r"mine.toml: \[output\] linear: .* is its meaning 'logit' and not 'prob"):
        score(described(taken, {"meaning": "probability"}), photographs)


def test_the_key_of_a_logit_names_all_that_a_logit_depends_on(described, tmp_path):
    network = Network(1)
    network.write(tmp_path / "network.onnx")
    taken = {"layout": "NCHW", "dtype": "float32", "colour": "RGB", "fit": "none"}

    def key(name="mine", given=(), **changes):
        detector = described(taken | changes, {"meaning": "logit"} | dict(given), name=name)
        return make_detector_scorer(detector).key(detector_reading(detector, batch=2))

    first = key()
    assert key(name="another name") == first
    assert key(colour="BGR") != first
    assert key(scale=1) != first
    assert key(given={"threshold": 1.0}) != first
    network.bias += 1
    network.write(tmp_path / "network.onnx")
    assert key() != first


def test_weights_in_files_of_their_own_are_in_the_fingerprint(described, photographs, tmp_path):
    taken = {"layout": "NCHW", "dtype": "float32", "colour": "RGB", "fit": "none"}
    network, keys, scores = Network(1), [], []
    for _ in range(2):
        network.write(tmp_path / "network.onnx")
        model = onnx.load(tmp_path / "network.onnx")
        (tmp_path / "weights.bin").unlink(missing_ok=True)
        onnx.save(
            model, tmp_path / "network.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0
        )
        detector = described(taken, {"meaning": "logit"})
        keys.append((detector.path.read_bytes(), detector.sha256))
        scores.append(score(detector, photographs[:1])[0])
        network.bias += 1
    assert keys[0][0] == keys[1][0]  # the network's own file is the same
    assert keys[0][1] != keys[1][1]
    np.testing.assert_allclose(scores[1] - scores[0], 1, rtol=0, atol=TOLERANCE)


GOOD = {"layout": "NCHW", "dtype": "float32", "colour": "RGB", "fit": "square", "resize": 40, "filter": "box"}


@pytest.mark.parametrize(
    ("written", "taken", "given", "message"),
    [
        ({}, {"name": "image"}, {}, "[input] name is 'image', the network has input"),
        ({}, {"dtype": "uint8"}, {}, "[input] dtype is 'uint8', the network's input input is float32"),
        ({"dtype": "uint8"}, {}, {}, "[input] dtype is 'float32', the network's input input is uint8"),
        ({}, {"layout": "NHWC"}, {}, "[input] layout is 'NHWC', the network's input input is ('n', 3, 40, 40)"),
        ({"layout": "NHWC"}, {}, {}, "[input] layout is 'NCHW', the network's input input is ('n', 40, 40, 3)"),
        ({}, {"resize": 48}, {}, "[input] resize makes pictures 48x48, the network's input input is ('n', 3, 40, 40)"),
        ({}, {"resize": 48, "crop": 44}, {}, "[input] crop makes pictures 44x44, the network's input"),
        (
            {},
            {"fit": "shorter"},
            {},
            "[input] fit is 'shorter' without a crop, so that sizes differ, and the network's",
        ),
        ({}, {}, {"name": "prob"}, "[output] name is 'prob', the network has linear"),
        ({}, {}, {"meaning": "softmax", "fake_index": 1}, "[output] meaning is 'softmax', 2 a picture, the network's"),
    ],
)
def test_what_contradicts_the_network_is_named_on_one_line(described, tmp_path, written, taken, given, message):
    Network(1).write(tmp_path / "network.onnx", **{"sides": (40, 40)} | written)
    with pytest.raises(DetectorError) as caught:
        described(GOOD | taken, {"meaning": "logit"} | given)
    assert str(caught.value).startswith(f"{tmp_path / 'mine.toml'}: {message}")
    assert str(caught.value).endswith("(network.onnx)")
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_network(described, tmp_path):
    (tmp_path / "network.onnx").write_bytes(b"not a network")
    with pytest.raises(ArtifactError, match=r"network.onnx: ONNX Runtime cannot load it .*mine.toml names it"):
        described(GOOD, {"meaning": "logit"})


def test_detectors_are_opened_by_their_files_and_have_names_of_their_own(described, tmp_path):
    Network(1).write(tmp_path / "network.onnx", sides=(40, 40))
    described(GOOD, {"meaning": "logit"}, name="first", file="1.toml")
    described(GOOD, {"meaning": "logit"}, name="second", file="2.toml")
    described(GOOD, {"meaning": "logit"}, name="first", file="3.toml")
    paths = [tmp_path / f"{index}.toml" for index in (1, 2, 3)]
    opened = open_detectors(paths[:2], settings=SETTINGS, spin=False)
    assert [detector.name for detector in opened] == ["first", "second"]
    for detector in opened:
        detector.close()
    with pytest.raises(DetectorError) as caught:
        open_detectors(paths)
    assert str(caught.value) == (f"{paths[2]}: name is 'first', as in {paths[0]}; give each a name of its own")
    assert open_detectors([]) == []
