"""What README and docs/ state and can be looked up: the Python runs, and defaults and limits are those of the code."""

import re
import tomllib

import pytest
from documentation import GUIDES, ROOT, find_code, find_row, find_tables, read_flowing
from PIL import Image

from calib.calibration import FEWEST_PICTURES
from engines.library import _OLDEST
from export.graph import ExportConfig
from lfm_deploy.artifacts import Precision
from lfm_deploy.cli.calibrate import command as calibrate
from lfm_deploy.config import NAMED
from lfm_deploy.deployment.deployment import DEFAULT_GPUS, export_into
from lfm_deploy.deployment.profiling import compare_with_paper, profile_config
from lfm_deploy.detectors.detector_contract import read_detector_contract
from lfm_deploy.errors import DetectorError
from lfm_deploy.metrics.resampling import ROUNDS
from lfm_deploy.metrics.sample_size import pictures_for_rate
from lfm_deploy.quantisation import Budget
from lfm_deploy.verification.conditions import standard_conditions
from lfm_deploy.verification.gates import _BF16_BUDGET, _FP16_POINTS, _SHARES
from lfm_deploy.workdir import Workdir

CONDITIONS = {
    "the file as it is": "as is",
    "JPEG, quality 98": "jpeg 98",
    "JPEG, quality 90": "jpeg 90",
    "WebP, quality 90": "webp 90",
    "scaled by 0.5": "resize 0.5",
    "scaled by 1.5": "resize 1.5",
    "middle 256x256 pixels, not resized (951 pictures)": "crop 256",
    "blurred, sigma 1 pixel": "blur 1",
    "screenshot": "screenshot",
}


def test_the_python_of_all_pages_runs(small_checkpoint, pictures, tmp_path, monkeypatch):
    export_into(Workdir(tmp_path / "deploy"), small_checkpoint, ExportConfig(evidence=True), print)
    monkeypatch.chdir(tmp_path)
    names = {"paths": sorted(pictures.rglob("*.png"))[:3]}
    blocks = find_code("docs/prediction.md", "python")
    assert len(blocks) == 2
    assert not [page for page in GUIDES if page != "docs/prediction.md" and find_code(page, "python")]
    for block in blocks:
        exec(block, names)  # noqa: S102  # it is our own page
    assert names["is_fake"].shape == (3,)
    with Image.open("evidence.png") as drawn:
        assert drawn.size == (256, 256)


def test_versions_are_those_that_are_required():
    python = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    assert f"Python {python.removeprefix('>=')} or newer" in read_flowing("README.md")
    for row in find_tables("docs/engines.md")[2][1:]:
        name, oldest = re.match(r"`(.*)`, ([\d.]+) or newer", row[2]).groups()
        assert ".".join(map(str, _OLDEST[name])) == oldest


def test_gpus_that_are_not_named_are_those_of_the_default():
    first, second, third = DEFAULT_GPUS
    assert f"they are for {first}, {second} and {third}." in read_flowing("docs/engines.md")


def test_the_budget_and_the_sample_are_the_defaults():
    text = read_flowing("docs/int8.md")
    assert f"--budget {Budget()}" in text
    defaults = {option.name: option.default for option in calibrate.params}
    assert f"(`--count {defaults['count']}`, `--seed {defaults['seed']}`)" in text
    assert f"At least {FEWEST_PICTURES} pictures" in text


def test_gates_are_those_that_are_judged():
    shares = {precision: f"a {round(1 / share)}th" for precision, share in _SHARES.items()}
    gates = {row[0]: row[1] for row in find_tables("docs/verification.md")[2][1:]}
    assert gates.keys() == {precision.upper() for precision in Precision}
    assert f"no logit moves further than {shares[Precision.FP32]} of" in gates["FP32"]
    assert f"no logit moves further than {shares[Precision.FP16]} of" in gates["FP16"]
    assert f"ACC and AP move by at most {_FP16_POINTS} points" in gates["FP16"]
    assert f"a {1 / _SHARES[Precision.BF16]:.0f}th of their spread" in gates["BF16"]
    assert f"at most {_BF16_BUDGET.flips:g} % of the decisions flip" in gates["BF16"]


def test_intervals_and_numbers_of_pictures_are_those_that_come_out():
    text = read_flowing("docs/verification.md")
    assert f"{ROUNDS:,} resamplings" in text
    few, many = pictures_for_rate(0, 0.005), pictures_for_rate(0, 0.001)
    assert f"{many:,} pictures decide a limit of 0.1 points and {few:,} one of 0.5" in text
    assert "up to 1 - 0.025^(1/n) of them" in text
    assert 1 - 0.025 ** (1 / many) <= 0.001 < 1 - 0.025 ** (1 / (many - 1))


def test_multiply_adds_are_those_that_are_counted():
    for name in ("LFM", "NPR"):
        rows = {row.what: row for row in compare_with_paper(profile_config(NAMED[name.lower()], 256, name))}
        counted, paper = rows["multiply-adds"].counted / 1e9, rows["operations"].paper
        assert find_row("docs/training.md", name)[1:] == (f"{counted:.3f} G", f"{paper:.2f} G")
        assert rows["operations"].agrees
        if name == "LFM":
            assert f"{rows['parameters'].paper:.2f} M parameters" in read_flowing("README.md")


def read_with(tmp_path, changes):
    """Read the page's TOML, changed as a row of its table says; ``fit = "none"`` takes resize and filter away."""
    (block,) = find_code("docs/verification.md", "toml")
    new = dict(re.findall(r"`(\w+) = ([^`]+)`", changes))
    gone = [*new, *(["resize", "filter"] if new.get("fit") == '"none"' else []), *re.findall(r"`(mean|std)`", changes)]
    kept = [line for line in block.splitlines() if line.split(" = ")[0] not in gone]
    for key, value in new.items():
        kept.insert(kept.index("[output]" if key in ("meaning", "fake_index") else "[input]") + 1, f"{key} = {value}")
    (tmp_path / "npr.onnx").touch()
    path = tmp_path / "detector.toml"
    path.write_text("\n".join(kept))
    return read_detector_contract(path)


@pytest.mark.parametrize(
    ("name", "side", "mean"),
    # By the authors' code: CNNDetection judges pictures of any size, the others squares.
    [("NPR", 256, 0.485), ("CNNDetection", None, 0.485), ("Ojha", 224, 0.48145466), ("SAFE", 256, 0)],
)
def test_the_detectors_of_others_are_described_so_that_they_can_be_read(tmp_path, name, side, mean):
    changes = find_row("docs/verification.md", name)[1].split(";")[0]
    contract = read_with(tmp_path, changes)
    assert (contract.input.side, contract.input.mean[0]) == (side, mean)
    assert contract.output.fake_index == (1 if name == "SAFE" else None)


def test_a_detector_with_a_key_too_many_is_refused(tmp_path):
    with pytest.raises(DetectorError, match="crop"):
        read_with(tmp_path, "`crop = 500`")


def test_every_row_of_the_envelope_is_a_condition_that_is_tried():
    names = {condition.name for condition in standard_conditions()}
    assert {CONDITIONS[row[0]] for row in find_tables("docs/verification.md")[3][1:]} <= names


def test_every_figure_lies_in_its_interval():
    pattern = re.compile(r"(\d+\.\d) \((\d+)-(\d+)\)")
    figures = [found for page in GUIDES for found in pattern.findall(read_flowing(page))]
    # The envelope, aligned fakes set by set, and the ablations before they reach 100.
    assert len(figures) == 4 * 9 + 4 * 8 + 2 * 4
    # Ends are rounded to whole numbers.
    assert all(float(low) - 0.5 <= float(value) <= float(high) + 0.5 for value, low, high in figures)


def test_the_figures_of_readme_are_those_of_the_pages():
    text = read_flowing("README.md")
    names = ("the file as it is", "JPEG, quality 98", "scaled by 0.5")
    as_it_is, jpeg, scaled = (find_row("docs/verification.md", name) for name in names)
    found, left = (row[3].split()[0] for row in (as_it_is, jpeg))
    assert f"of photographs scaled by 0.5, it calls {scaled[4].split()[0]} % fake" in text
    assert (
        f"After one JPEG of quality 98, the published checkpoint finds {left} % of the fakes instead of {found} %"
        in text
    )
    naive = find_row("docs/int8.md", "every layer in INT8 for TensorRT, min/max ranges, weights rounded to the nearest")
    assert f"{naive[1]} of the 965 decisions flip" in text
    reference = find_row("README.md", "PyTorch FP32")
    assert [f"{float(cell):.1f}" for cell in reference[2:4]] == [cell.split()[0] for cell in as_it_is[1:3]]
    assert find_row("docs/int8.md", "FP32")[2] == reference[2]
    for build, engine in (("`lfm-deploy build --int8` for TensorRT", "for TensorRT"),
                          ("`lfm-deploy build --int8 --target cpu`", "for the CPU")):  # fmt: skip
        row = find_row("README.md", f"ONNX Runtime INT8 graph {engine}")
        assert find_row("docs/int8.md", build)[1:] == (row[4], row[2])
