import dataclasses
import itertools
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import lfm_deploy
from engines.card_choice import make_reader
from engines.loading import load_engine
from export.graph import ExportConfig, make_graph
from lfm_deploy.artifacts import Precision
from lfm_deploy.errors import ImageError, InputError, UnavailableError
from lfm_deploy.network.checkpoint import read_checkpoint
from lfm_deploy.pictures.decoders import PILLOW
from lfm_deploy.pictures.images import find_images, read_image
from lfm_deploy.pictures.photographs import sample_tiles
from lfm_deploy.pictures.sources import file_source, find_sources
from lfm_deploy.prediction.judges import open_judge
from lfm_deploy.prediction.prediction import predict, predict_groups
from lfm_deploy.storage.graph_file import seal_graph
from lfm_deploy.workdir import Workdir


@pytest.fixture
def mixed(pictures, tmp_path):
    """24 pictures of a suite, and after every fifth of them a broken one."""
    for index, path in enumerate(find_images(pictures)):
        shutil.copy(path, tmp_path / f"{index:02}.png")
        if index % 5 == 4:
            (tmp_path / f"{index:02}x.png").write_bytes(b"broken")
    return find_images(tmp_path)


def test_verdicts_are_the_engines_picture_by_picture(small_workdir, mixed):
    engine = load_engine(small_workdir.graph(Precision.FP32))
    rows = list(predict(mixed, workdir=small_workdir, batch=7))
    assert [(row.index, row.path) for row in rows] == list(enumerate(map(str, mixed)))
    for row, path in zip(rows, mixed, strict=True):
        if "x" in path.name:
            assert (row.logit, row.verdict, row.error) == (
                None,
                None,
                "cannot be read: not a picture of a known format",
            )
            continue
        (expected,) = engine.logits(read_image(path)[None])
        # Sums of a few hundred float32 terms, perhaps in another order at another batch size.
        assert row.logit == pytest.approx(float(expected), rel=1e-5, abs=1e-4)
        assert row.verdict == ("fake" if row.logit > 0 else "real")
        assert row.error is None
    assert {row.verdict for row in rows} == {"fake", "real", None}


def test_rows_are_the_same_bits_behind_any_group_that_a_run_goes_on_from(small_workdir, mixed):
    judge = open_judge(small_workdir, batch=4)
    whole = list(predict_groups(judge, map(file_source, mixed)))
    for position in range(1, len(whole)):
        start = whole[position][0].index
        rest = predict_groups(judge, map(file_source, mixed[start:]), start=start)
        assert list(rest) == whole[position:]


def test_the_threshold(small_workdir, mixed):
    rows = [row for row in predict(mixed, workdir=small_workdir) if row.logit is not None]
    middle = float(np.median([row.logit for row in rows]))
    found = [row for row in predict(mixed, workdir=small_workdir, threshold=middle) if row.logit is not None]
    assert [row.verdict for row in found] == ["fake" if row.logit > middle else "real" for row in rows]
    assert {row.verdict for row in found} == {"fake", "real"}


def test_verdicts_come_before_the_list_ends(small_workdir, mixed):
    def endless():
        return itertools.cycle(map(file_source, mixed))

    judge = open_judge(small_workdir, batch=4)
    groups = list(itertools.islice(predict_groups(judge, endless()), 20))
    assert [row.index for group in groups for row in group] == list(range(80))


def test_a_folder_as_path_and_from_the_package(small_workdir, pictures):
    rows = list(lfm_deploy.predict(pictures, workdir=small_workdir.path))
    assert [row.path for row in rows] == [str(path) for path in find_images(pictures)]
    assert isinstance(rows[0], lfm_deploy.Prediction)


def test_strict_stops_at_the_first_after_the_rows_before_it(small_workdir, mixed):
    rows = []
    with pytest.raises(ImageError, match=r"04x.png: cannot be read.*picture 6; --strict"):
        rows.extend(predict(mixed, workdir=small_workdir, strict=True))
    assert [row.index for row in rows] == [0, 1, 2, 3, 4]


def test_pictures_of_various_sizes_at_native_size(small_checkpoint, mixed, tmp_path):
    workdir = Workdir(tmp_path / "native")
    workdir.path.mkdir()
    graph = make_graph(read_checkpoint(small_checkpoint), ExportConfig(size="native"))
    workdir.graph(Precision.FP32).write_bytes(seal_graph(graph))
    for index, path in enumerate(mixed):
        if "x" not in path.name:
            with Image.open(path) as picture:
                picture.crop((0, 0, 64 + 16 * (index % 3), 65 if index == 7 else 80)).save(path)
    rows = list(predict(mixed, workdir=workdir, batch=5))
    engine = load_engine(workdir.graph(Precision.FP32))
    assert "odd side" in rows[7].error
    for row, path in zip(rows, mixed, strict=True):
        if row.error is None:
            (expected,) = engine.logits(read_image(path, "native", engine.config)[None])
            assert row.logit == pytest.approx(float(expected), rel=1e-5, abs=1e-4)  # as above
    assert sum(row.error is None for row in rows) == 23


def test_nothing_to_read(small_workdir, tmp_path):
    with pytest.raises(InputError, match=r"nothing to read: no picture in .*FOLDER/\*.tar"):
        list(predict(tmp_path, workdir=small_workdir))
    with pytest.raises(InputError, match="no such file or folder"):
        list(predict(Path("none.png"), workdir=small_workdir))


def test_rows_are_the_same_on_every_decoder_and_over_the_card(small_workdir, tmp_path, kernel_device):
    """A cut JPEG, a 16-bit PNG, zero bytes: each its row with the reason. The card is nvImageCodec's CPU backend."""
    photograph = Image.fromarray(sample_tiles(300, 280, 1)[0])
    photograph.save(tmp_path / "0.jpg", quality=90)
    photograph.convert("CMYK").save(tmp_path / "1.jpg")
    (tmp_path / "2.jpg").write_bytes((tmp_path / "0.jpg").read_bytes()[:5000])
    Image.fromarray(np.full((64, 64), 40_000, np.uint16)).save(tmp_path / "3.png")
    (tmp_path / "4.jpg").touch()
    photograph.save(tmp_path / "5.png")
    photograph.resize((256, 256)).save(tmp_path / "6.jpeg", progressive=True)
    photograph.save(tmp_path / "7.jfif", format="JPEG", subsampling=0)
    photograph.save(tmp_path / "8.jpg", format="PNG")
    rows = {}
    for name in ("pillow", "simplejpeg", "nvimagecodec"):
        try:
            rows[name] = list(predict(tmp_path, workdir=small_workdir, device="cpu", decoder=name, batch=4))
        except UnavailableError as error:
            pytest.skip(str(error))
    assert rows["pillow"] == rows["simplejpeg"] == rows["nvimagecodec"]
    reasons = [row.error for row in rows["pillow"]]
    assert [index for index, reason in enumerate(reasons) if reason] == [2, 3, 4]
    assert "truncated" in reasons[2]
    assert "16" in reasons[3]
    assert reasons[4] == "the file is empty"
    if kernel_device == "cpu":
        judge = open_judge(small_workdir, device="cpu", decoder="nvimagecodec", batch=4)
        card = make_reader(judge.decoder.jpeg, PILLOW, 256, judge.engine.config, "cpu")
        assert card.check() == (0, 0.0)
        judge = dataclasses.replace(judge, card=card)
        found = predict_groups(judge, find_sources([str(tmp_path)]))
        assert [row for group in found for row in group] == rows["pillow"]
        judge.engine.close()
