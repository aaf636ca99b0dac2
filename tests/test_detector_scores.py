"""Foreign detectors in a verification: LFM's own graph, described by a TOML file as if it came from elsewhere."""

import json
import shutil

import pytest
from PIL import Image

from lfm_deploy.artifacts import Precision
from lfm_deploy.errors import DetectorError, SuiteError
from lfm_deploy.report.document import make_report, scores_as_rows
from lfm_deploy.suites import load_suites
from lfm_deploy.verification.verification import verify
from lfm_deploy.verification.verify_options import VerifyOptions
from lfm_deploy.workdir import Workdir

TOML = """
name = "{name}"
onnx = "{graph}"
[input]
layout = "NHWC"
dtype = "uint8"
colour = "RGB"
{fit}
[output]
meaning = "logit"
threshold = {threshold}
"""
RESIZED = 'fit = "square"\nresize = 256\nfilter = "bilinear"'
CROPPED = 'fit = "none"\ncrop = 256\ntoo_small = "skip"'


@pytest.fixture
def workdir(small_workdir, tmp_path):
    shutil.copytree(small_workdir.path, tmp_path / "deploy")
    return Workdir(tmp_path / "deploy")


@pytest.fixture
def describe(small_workdir, tmp_path):
    def write(name="someone else's", *, fit=RESIZED, threshold=0.0):
        path = tmp_path / f"{len(list(tmp_path.glob('*.toml')))}.toml"
        graph = small_workdir.graph(Precision.FP32)
        path.write_text(TOML.format(name=name, graph=graph, fit=fit, threshold=threshold))
        return path

    return write


def run(workdir, folder, *detectors, use_cache=True, **callbacks):
    options = VerifyOptions(speed_seconds=0, detectors=detectors, use_cache=use_cache)
    return verify(workdir, load_suites(folder), options, **callbacks)


def test_a_detector_stands_in_the_table_without_gates(workdir, describe, pictures):
    found = run(workdir, pictures, describe())
    reference, engine, detector = found.engines
    assert [row.kind for row in found.engines] == ["reference", "engine", "detector"]
    # The same graph on the same files: the same figures, to the last digit.
    assert detector.suites[0].mean == engine.suites[0].mean
    assert detector.gates == ()
    assert detector.suites[0].against is None
    assert found.compared == [engine]
    report = make_report(found, device="cpu")
    assert report["verdict"]["text"] == "PASSED on CPU: 1 of 1 engines hold their gates"
    values = json.loads(json.dumps(report))["engines"][2]
    assert (values["kind"], values["name"], values["file"]) == ("detector", "someone else's", "lfm.onnx")
    assert len(scores_as_rows(found)) == 3 * 24
    assert reference.suites[0].pictures == detector.suites[0].pictures == 24


def test_its_threshold_counts(workdir, describe, pictures):
    lenient = run(workdir, pictures).engines[1].suites[0]
    highest = float(lenient.logits.max())
    strict = run(workdir, pictures, describe("strict", threshold=highest)).engines[-1].suites[0]
    assert lenient.mean.acc_fake.value > 0
    assert strict.mean.acc_fake.value == 0
    assert strict.logits.max() == 0
    # Moved by the threshold, they are no longer the logits of its probabilities.
    assert strict.mean.ece is strict.pooled.ece is strict.sets[0].metrics.ece is None
    assert lenient.mean.ece is not None


def test_a_second_run_takes_its_scores_from_the_cache(workdir, describe, pictures):
    first, second = (run(workdir, pictures, describe()) for _ in range(2))
    assert (first.engines[-1].cached, second.engines[-1].cached) == (0, 24)
    assert second.engines[-1].suites[0].mean == first.engines[-1].suites[0].mean


@pytest.mark.parametrize("moment", ["scoring pictures", "someone else's on pictures"])
def test_a_file_that_changes_while_it_is_judged_is_not_kept_under_its_old_content(
    workdir, describe, pictures, tmp_path, moment
):
    own = tmp_path / "pictures"
    shutil.copytree(pictures, own)
    path, other, *_ = sorted((own / "first" / "0_real").iterdir())
    content = path.read_bytes()

    def change(what, done, _):
        if (what, done) == (moment, 0):
            path.write_bytes(other.read_bytes())

    changed = run(workdir, own, describe(), on_progress=change)
    path.write_bytes(content)
    found, expected = (
        {name: parts[0][1].logits.tolist() for (name, _), parts in verified.scores.items()}
        for verified in (run(workdir, own, describe()), run(workdir, pictures, describe(), use_cache=False))
    )
    # One picture alone and 32 at a time differ in float32's last digits; the two contents by more than 0.1.
    assert found == {name: pytest.approx(logits, abs=1e-4) for name, logits in expected.items()}
    judged = changed.scores["someone else's", "pictures"][0][1].logits
    assert abs(judged[0] - expected["someone else's"][0]) > 0.1


def test_pictures_that_it_refuses_are_left_out_of_its_figures_alone(workdir, describe, pictures, tmp_path):
    shutil.copytree(pictures, tmp_path / "mixed")
    Image.new("RGB", (100, 300), (90, 80, 70)).save(tmp_path / "mixed" / "first" / "0_real" / "narrow.png")
    found = run(workdir, tmp_path / "mixed", describe(fit=CROPPED))
    assert [row.suites[0].pictures for row in found.engines] == [25, 25, 24]
    ((path, reason),) = [(one.path.name, one.reason) for one in found.skipped]
    assert path == "narrow.png"
    assert reason.startswith("someone else's: ")


def test_a_class_of_which_it_refuses_all_is_an_error(workdir, describe, pictures, tmp_path):
    shutil.copytree(pictures, tmp_path / "small")
    for path in (tmp_path / "small" / "first" / "0_real").iterdir():
        Image.new("RGB", (100, 300)).save(path)
    with pytest.raises(SuiteError, match=r"small/first: someone else's can judge 6 of 12 pictures.*'too_small'"):
        run(workdir, tmp_path / "small", describe(fit=CROPPED))


def test_a_set_of_one_class_of_which_it_refuses_all_is_an_error(workdir, describe, pictures, tmp_path):
    shutil.copytree(pictures, tmp_path / "small")
    (tmp_path / "small" / "tiles" / "0_real").mkdir(parents=True)
    Image.new("RGB", (100, 300)).save(tmp_path / "small" / "tiles" / "0_real" / "narrow.png")
    with pytest.raises(SuiteError, match=r"small/tiles: someone else's can judge 0 of 1 pictures"):
        run(workdir, tmp_path / "small", describe(fit=CROPPED))


def test_names_of_engines_are_taken(workdir, describe, pictures):
    with pytest.raises(DetectorError, match="'onnxruntime fp32' is the name of an engine here"):
        run(workdir, pictures, describe("onnxruntime fp32"))


def test_a_bad_file_stops_before_anything_is_scored(workdir, pictures, tmp_path):
    (tmp_path / "bad.toml").write_text('name = "x"\nonnx = "x.onnx"\nonyx = "x.onnx"\n')
    begun = []
    with pytest.raises(DetectorError, match=r"bad\.toml: its content has no input"):
        run(workdir, pictures, tmp_path / "bad.toml", on_start=lambda: begun.append(1))
    assert begun == []
