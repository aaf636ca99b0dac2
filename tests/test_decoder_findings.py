"""Decoders judged like engines: those that are Pillow's equal pass, those that are not are caught."""

import html
import json
import shutil
from typing import ClassVar

import numpy as np
import pytest
from lying_decoder import lying_decoder
from PIL import Image

from lfm_deploy.cli import run
from lfm_deploy.errors import ConfigError, UnavailableError
from lfm_deploy.pictures.decoders import PictureDecoder, open_decoder
from lfm_deploy.pictures.photographs import sample_tiles
from lfm_deploy.report.document import make_report
from lfm_deploy.report.markdown import make_markdown
from lfm_deploy.report.page import make_page
from lfm_deploy.suites import load_suites
from lfm_deploy.verification import decoder_findings
from lfm_deploy.verification.decoder_findings import JudgedDecoder, open_judged
from lfm_deploy.verification.verification import verify
from lfm_deploy.verification.verify_options import VerifyOptions


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Twelve pictures of both classes, JPEG and PNG, of 256 pixels and more, and a JPEG that is cut in half."""
    folder = tmp_path_factory.mktemp("photographs")
    for index, tile in enumerate(sample_tiles(300, 280, 12)):
        home = folder / ("0_real", "1_fake")[index % 2]
        home.mkdir(exist_ok=True)
        Image.fromarray(tile).save(home / f"{index:02}.{'png' if index % 3 == 2 else 'jpg'}", quality=90)
    whole = (folder / "0_real" / "00.jpg").read_bytes()
    (folder / "0_real" / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    return folder


def judge(workdir, folder, *decoders, **options):
    settings = VerifyOptions(speed_seconds=0, use_cache=False, decoders=decoders, **options)
    return verify(workdir, load_suites(str(folder)), settings)


def row_of(found, name):
    return next(row for row in found.engines if row.name == f"decoder {name}")


def needs(name):
    try:
        open_decoder(name)
    except UnavailableError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("name", ["pillow", "simplejpeg", "nvimagecodec"])
def test_an_equal_decoder_has_the_references_decisions(small_workdir, photographs, name):
    needs(name)
    found = judge(small_workdir, photographs, name)
    row, reference = row_of(found, name), found.engines[0]
    (pixels,) = row.pixels.values()
    assert (pixels.pictures, pixels.differing, pixels.otherwise, pixels.samples) == (12, 0, 0, ())
    (suite,) = row.suites
    assert suite.against.flips == 0
    assert suite.against.logit_error.max == 0
    assert np.array_equal(suite.logits, reference.suites[0].logits)
    assert row.kind == "decoder"
    assert not row.failed
    assert found.passed
    assert [skipped.path.name for skipped in found.skipped] == ["cut.jpg"]
    assert (f"decoder {name}", found.suites[0].name) in found.scores


def test_a_decoder_that_is_a_level_off_is_caught_although_npr_does_not_see_it(small_workdir, photographs, monkeypatch):
    needs("simplejpeg")
    monkeypatch.setattr(decoder_findings, "open_decoder", lambda *_: lying_decoder())
    found = judge(small_workdir, photographs, "simplejpeg")
    row = row_of(found, "simplejpeg")
    (pixels,) = row.pixels.values()
    assert pixels.differing == 8  # the JPEG files
    assert pixels.largest == 1
    assert pixels.share > 0.6
    assert len(pixels.samples) == 7
    assert row.failed
    assert [gate.name for gate in row.gates if gate.outcome == "fails"] == ["values that differ from Pillow's in %"]
    assert not found.passed
    report = make_report(found, device="cpu")
    assert report["verdict"]["outcome"] == "failed"
    assert "decoder simplejpeg broke a gate" in report["verdict"]["text"]
    sentence = "8 of 12 pictures have other pixels than Pillow's"
    assert sentence in html.unescape(make_page(report, []))
    assert sentence in make_markdown(report)


class Turning:
    """A decoder that turns pictures, refuses some, and reads what is cut short."""

    name, before_resize = "simplejpeg", True
    versions: ClassVar[dict[str, str]] = {}

    def __init__(self):
        self._honest = open_decoder("simplejpeg").jpeg

    def decode(self, content, slot):
        found = self._honest.decode(content, None)
        return None if found is None else np.ascontiguousarray(found[::-1, ::-1])


def test_what_moves_logits_is_judged_again_by_the_reference(small_workdir, photographs, monkeypatch):
    needs("simplejpeg")
    turning = PictureDecoder(name="simplejpeg", jpeg=Turning())
    monkeypatch.setattr(decoder_findings, "open_decoder", lambda *_: turning)
    row = row_of(judge(small_workdir, photographs, "simplejpeg"), "simplejpeg")
    (suite,) = row.suites
    assert suite.against.logit_error.max > 0.1
    assert row.failed


def test_pictures_that_only_one_can_read_are_counted():
    ours = {0: np.zeros((2, 2, 3), np.uint8), 1: "damaged", 2: "damaged", 3: np.zeros((2, 2, 3), np.uint8)}
    theirs = {0: "damaged", 1: np.zeros((2, 2, 3), np.uint8), 2: "damaged", 3: np.zeros((2, 2, 3), np.uint8)}
    found = decoder_findings.PixelFindings()
    assert decoder_findings._compare(ours, theirs, found) == {}
    assert (found.otherwise, found.pictures, found.share) == (2, 1, 0.0)


def test_options_name_decoders_once():
    with pytest.raises(ConfigError, match="expected each once of pillow"):
        VerifyOptions(decoders=("libjpeg",))
    with pytest.raises(ConfigError):
        VerifyOptions(decoders=("pillow", "pillow"))


def test_a_card_that_is_not_there_is_said(no_gpu):
    needs("nvimagecodec")
    with pytest.raises(UnavailableError, match="nvimagecodec on cuda:0: not run"):
        open_judged("nvimagecodec", "cuda")
    assert open_judged("nvimagecodec", "cpu").device == "cpu"


def test_the_way_over_a_card_is_the_one_that_is_judged(small_workdir, photographs, monkeypatch, kernel_device):
    """On nvImageCodec's CPU backend; ``device`` alone says that it is a card."""
    needs("nvimagecodec")
    if kernel_device != "cpu":
        pytest.skip("kernels run on the card here: the other tests take it")
    made = []
    make = decoder_findings.make_reader

    def make_reader(decoder, host, size, config, device):
        made.append(device)
        return make(decoder, host, size, config, "cpu")

    monkeypatch.setattr(decoder_findings, "make_reader", make_reader)
    monkeypatch.setattr(
        decoder_findings,
        "open_judged",
        lambda name, device: JudgedDecoder(decoder=open_decoder(name), device="cuda:0"),
    )
    monkeypatch.setattr("lfm_deploy.verification.verification.open_judged", decoder_findings.open_judged)
    row = row_of(judge(small_workdir, photographs, "nvimagecodec"), "nvimagecodec")
    (pixels,) = row.pixels.values()
    assert made == ["cuda:0"]
    assert (pixels.pictures, pixels.differing, pixels.otherwise) == (12, 0, 0)


def test_the_command_says_it_in_json_and_on_the_terminal(small_workdir, photographs, tmp_path, capfd):
    needs("simplejpeg")
    shutil.copytree(small_workdir.path, tmp_path / "deploy")
    command = ["verify", "--suite", str(photographs), "--no-speed", "--decoder", "simplejpeg"]
    command += ["--workdir", str(tmp_path / "deploy")]
    assert run([*command, "--json"]) == 0
    report = json.loads(capfd.readouterr().out)
    row = report["engines"][-1]
    assert (row["kind"], row["name"]) == ("decoder", "decoder simplejpeg")
    assert row["pixels"][0]["pictures"] == 12
    assert row["suites"][0]["against"]["logit_error"]["mean"] == 0
    assert run(command) == 0
    out = capfd.readouterr().out
    assert "the pixels of all 12 pictures are Pillow's" in out
