import asyncio
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from mixed_files import FORMATS, encode, list_bad
from own_loop import run_apart
from PIL import Image

from export.graph import ExportConfig
from lfm_deploy.deployment.deployment import export_into
from lfm_deploy.pictures.photographs import sample_tiles
from lfm_deploy.prediction.judges import open_judge
from lfm_deploy.prediction.prediction import predict
from lfm_deploy.serving.refusals import Reason, RefusalError
from lfm_deploy.serving.settings import ServiceSettings
from lfm_deploy.serving.verdicts import VerdictDesk, count_pixels
from lfm_deploy.workdir import Workdir

MOST = 50_000_000


def run(judge, test, **settings):
    async def main():
        with ThreadPoolExecutor(1) as thread:
            desk = VerdictDesk(judge, ServiceSettings(**settings), thread)
            desk.batcher.start()
            await test(desk)
            await desk.close()
            assert desk.batcher.reserved == 0
            assert desk._held._now == 0

    run_apart(main())


@pytest.fixture(scope="module")
def judge(deployment):
    return open_judge(deployment)


@pytest.fixture(scope="module")
def native(small_checkpoint, tmp_path_factory):
    workdir = Workdir(tmp_path_factory.mktemp("native") / "deploy")
    export_into(workdir, small_checkpoint, ExportConfig(size="native"), lambda _: None)
    return workdir


def test_pixels_are_counted_without_decoding():
    tile = Image.fromarray(sample_tiles(64, 96, 1)[0])
    for suffix in FORMATS:
        assert count_pixels(encode(tile, suffix), MOST) == 64 * 96
    for suffix in ("png", "jpg", "bmp", "ppm"):
        content = encode(tile, suffix)
        # It could not be decoded, and nobody tries.
        assert count_pixels(content[: len(content) * 3 // 4], MOST) == 64 * 96


def test_a_png_with_megabytes_of_text_is_counted_too():
    """Pillow refuses its texts; the size is known without them."""
    tile = encode(Image.fromarray(sample_tiles(64, 96, 1)[0]), "png")
    text = b"prompt\0\0" + zlib.compress(bytes(70_000_000))
    chunk = struct.pack(">I", len(text)) + b"zTXt" + text + struct.pack(">I", zlib.crc32(b"zTXt" + text))
    assert count_pixels(tile[:33] + chunk + tile[33:], MOST) == 64 * 96


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("empty.png", Reason.CANNOT_BE_JUDGED),
        ("text.jpg", Reason.UNKNOWN_FORMAT),
        ("deep.png", Reason.CANNOT_BE_JUDGED),
    ],
)
def test_what_the_header_shows_is_refused(name, reason):
    with pytest.raises(RefusalError) as refusal:
        count_pixels(list_bad()[name], MOST)
    assert refusal.value.reason is reason


def test_a_picture_with_one_pixel_too_many():
    content = encode(Image.new("RGB", (100, 100)), "png")
    assert count_pixels(content, 10_000) == 10_000
    with pytest.raises(RefusalError, match="10000 pixels are more than the 9999") as refusal:
        count_pixels(content, 9_999)
    assert refusal.value.status == 413


def test_pictures_of_many_native_sizes_share_a_batch_and_keep_their_rows(native, tmp_path):
    sizes = [(64, 64), (128, 64), (64, 64), (63, 64), (4, 4), (128, 64), (256, 256), (64, 64)]
    files = []
    for index, size in enumerate(sizes):
        tile = Image.fromarray(sample_tiles(400, 400, len(sizes))[index]).resize(size)
        (tmp_path / f"{index}.png").write_bytes(encode(tile, "png"))
        files.append((str(tmp_path / f"{index}.png"), encode(tile, "png")))
    expected = list(predict([name for name, _ in files], workdir=native))

    async def test(desk):
        verdicts = await desk.judge_files(files)
        for verdict, row in zip(verdicts, expected, strict=True):
            assert (verdict.row.path, verdict.row.logit, verdict.row.error) == (row.path, row.logit, row.error)
        assert [verdict.refusal is None for verdict in verdicts] == [row.error is None for row in expected]

    assert {row.error is None for row in expected} == {True, False}
    run(open_judge(native), test, max_delay_ms=100)


def test_large_native_pictures_do_not_pile_up(native):
    """Four of them are as many pixels as the queue may hold; the next is asked to come again."""
    large = encode(Image.fromarray(np.zeros((1024, 1024, 3), np.uint8)), "png")

    async def test(desk):
        first = asyncio.create_task(desk.judge_files([(str(index), large) for index in range(4)]))
        while desk._held._now < 4 * 1024 * 1024:
            await asyncio.sleep(0.01)
        (verdict,) = await desk.judge_files([("late", large)])
        assert verdict.refusal.reason is Reason.QUEUE_FULL
        desk.batcher.delay_s = 0.0
        desk.batcher._arrived.set()
        assert all(verdict.refusal is None for verdict in await first)

    run(open_judge(native), test, max_queue=16, max_delay_ms=10_000)


def test_a_logit_that_is_no_number_is_an_error(judge):
    class Broken:
        def __getattr__(self, name):
            return getattr(judge.engine, name)

        def logits(self, images):
            return np.full(len(images), np.nan, np.float32)

    from dataclasses import replace

    tile = sample_tiles(256, 256, 1)

    async def test(desk):
        (verdict,) = await desk.judge_files([("a.png", encode(Image.fromarray(tile[0]), "png"))])
        assert verdict.refusal.reason is Reason.INTERNAL
        assert verdict.row.verdict is None
        with pytest.raises(RefusalError, match="nan"):
            await desk.judge_pixels(tile)

    run(replace(judge, engine=Broken()), test)


def test_a_request_larger_than_the_queue_is_refused_for_good(judge):
    async def test(desk):
        with pytest.raises(RefusalError, match="send fewer") as refusal:
            await desk.judge_files([("a", b"")] * 4)
        assert (refusal.value.status, refusal.value.retry_after_s) == (413, None)

    run(judge, test, max_queue=3)


def test_an_engine_that_fails_fails_its_batch_and_no_other(judge):
    from dataclasses import replace

    calls = []

    class Flaky:
        def __getattr__(self, name):
            return getattr(judge.engine, name)

        def logits(self, images):
            calls.append(len(images))
            if len(calls) == 1:
                raise MemoryError
            return judge.engine.logits(images)

    content = encode(Image.fromarray(sample_tiles(256, 256, 1)[0]), "png")

    async def test(desk):
        with pytest.raises(MemoryError):
            await desk.judge_files([("a.png", content)])
        (verdict,) = await desk.judge_files([("b.png", content)])
        assert verdict.row.logit is not None

    run(replace(judge, engine=Flaky()), test)
