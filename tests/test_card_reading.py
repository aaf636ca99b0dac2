"""The way over the card, whole, on nvImageCodec's CPU backend and interpreted kernels, against Pillow alone."""

import io
import threading

import numpy as np
import pytest
from PIL import Image

from engines.card_choice import check_distance
from engines.card_reading import CardReader, sample_jpeg, split_pixels
from lfm_deploy.config import ModelConfig
from lfm_deploy.errors import DecoderError, ImageError, UnavailableError
from lfm_deploy.pictures.decoders import open_decoder
from lfm_deploy.pictures.decoding import Source
from lfm_deploy.pictures.pipeline import Encoded, read_groups
from lfm_deploy.pictures.self_test import draw_pattern

CONFIG = ModelConfig(widths=(8, 8, 16), projection=4, k=4)
SIDE = 64


@pytest.fixture(scope="module")
def reader(kernel_device):
    index = None if kernel_device == "cpu" else 0
    try:
        decoder = open_decoder("nvimagecodec", index).jpeg
    except UnavailableError as error:
        pytest.skip(str(error))
    if not any(decoder.decode_batch([sample_jpeg(64, 64)])):
        pytest.skip("this card has no JPEG hardware, or nvJPEG is not installed")
    return CardReader(decoder=decoder, host=None, size=SIDE, config=CONFIG, device=kernel_device)


def saved(form="JPEG", size=(90, 70), mode="RGB", **options):
    stream = io.BytesIO()
    Image.fromarray(draw_pattern(*size)).convert(mode).save(stream, format=form, **options)
    return stream.getvalue()


def sixteen_bit():
    stream = io.BytesIO()
    Image.fromarray(np.full((64, 64), 40_000, np.uint16)).save(stream, format="PNG")
    return stream.getvalue()


def missing():
    raise ImageError("no such file")


MIXED = [
    lambda: sample_jpeg(100, 80),
    lambda: saved("PNG"),
    lambda: sample_jpeg(64, 64),
    lambda: b"",
    lambda: sample_jpeg(100, 80)[:1500],
    lambda: saved(progressive=True),
    lambda: saved(mode="CMYK"),
    lambda: saved(mode="L"),
    sixteen_bit,
    lambda: sample_jpeg(31, 130),
    lambda: saved("WEBP"),
    missing,
    lambda: b"\xff\xd8\xff hello",
    lambda: saved(subsampling=0, quality=97),
]


def sources(loads=MIXED):
    return [Source(f"{index:02}", load) for index, load in enumerate(loads)]


def assert_same_groups(found, expected, *, damaged=False):
    """On a card's hardware, pixels may be a level off in few values; of damage it makes what it likes."""
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert (one.start, one.names, one.reasons) == (other.start, other.names, other.reasons)
        assert [offsets for offsets, _ in one.runs] == [offsets for offsets, _ in other.runs]
        assert one.encoded == {}
        for (_, pixels), (_, wanted) in zip(one.runs, other.runs, strict=True):
            if isinstance(pixels, np.ndarray):
                assert np.array_equal(pixels, wanted)
                continue
            away = np.abs(pixels.cpu().numpy().astype(int) - wanted)
            assert away.shape == wanted.shape
            assert damaged or (away.max() <= 1 and (away > 0).mean() <= 0.01)


@pytest.mark.parametrize("batch", [1, 4, 5, 64])
def test_groups_rows_and_reasons_are_those_of_the_host(reader, batch):
    found = list(reader.read(sources(), batch=batch, start=7))
    assert_same_groups(found, list(read_groups(sources(), SIDE, batch=batch, config=CONFIG, start=7)))


def test_the_card_does_decode(reader, monkeypatch):
    """Else all of the above could be the host's work."""
    seen = []
    decode = type(reader.decoder).decode_batch

    def counting(self, contents, stream=0):
        found = decode(self, contents, stream)
        seen.extend(picture is not None for picture in found)
        return found

    monkeypatch.setattr(type(reader.decoder), "decode_batch", counting)
    list(reader.read(sources(), batch=64))
    assert sum(seen) == 5  # three colour pictures of the camera's kind, one without subsampling, a grey one


def test_what_the_card_gives_up_is_decoded_by_the_host(reader, monkeypatch):
    monkeypatch.setattr(type(reader.decoder), "decode_batch", lambda self, contents, stream=0: [None] * len(contents))
    assert_same_groups(
        list(reader.read(sources(), batch=5)), list(read_groups(sources(), SIDE, batch=5, config=CONFIG))
    )
    with pytest.raises(DecoderError, match="no JPEG hardware"):
        reader.check()


def test_the_self_test_holds_and_a_level_is_noticed(reader, monkeypatch):
    if reader.device == "cpu":
        assert reader.check() == (0, 0.0)
    check_distance(reader.check(), lambda _: None, named=True)
    decode = type(reader.decoder).decode_batch

    class Shifted:
        """A picture of the library, one level brighter."""

        def __init__(self, picture):
            self.pixels = (np.minimum(np.asarray(picture.cpu()), 254) + 1).astype(np.uint8)
            self.shape, self.__array_interface__ = self.pixels.shape, self.pixels.__array_interface__

    monkeypatch.setattr(
        type(reader.decoder),
        "decode_batch",
        lambda self, contents, stream=0: [one and Shifted(one) for one in decode(self, contents, stream)],
    )
    if reader.device == "cpu":
        largest, share = reader.check()
        assert largest == 1
        assert share > 0.5


def test_one_thread_works_on_all_that_is_read(reader, monkeypatch):
    """A decoder is its thread's own, and the card's takes long to make."""
    threads = []
    decode = type(reader.decoder).decode_batch

    def noting(self, contents, stream=0):
        threads.append(threading.current_thread())
        return decode(self, contents, stream)

    monkeypatch.setattr(type(reader.decoder), "decode_batch", noting)
    for _ in range(3):
        list(reader.read(sources(), batch=64))
    assert len(set(threads)) == 1
    assert threads[0] is not threading.current_thread()


def test_whoever_stops_early_waits_for_what_is_under_way(reader, monkeypatch):
    ended = []
    finish = CardReader.finish
    monkeypatch.setattr(CardReader, "finish", lambda self, group: (finish(self, group), ended.append(group))[0])
    groups = reader.read(sources(), batch=4)
    next(groups)
    groups.close()
    assert len(ended) == 2


def test_damage_gives_the_same_rows_on_the_card_and_on_the_host(reader):
    """Without Pillow's look at each header."""
    rng = np.random.default_rng(0)
    whole = sample_jpeg(72, 56)
    contents = []
    for trial in range(100):
        content = bytearray(whole)
        for place in rng.integers(2 if trial % 2 else 600, len(content), 2):
            content[place] = rng.integers(256)
        contents.append(bytes(content))
    loads = [lambda content=content: content for content in contents]
    assert_same_groups(
        list(reader.read(sources(loads), batch=50)),
        list(read_groups(sources(loads), SIDE, batch=50, config=CONFIG)),
        damaged=True,
    )


def test_large_pictures_take_turns():
    encoded = {at: Encoded(b"", (side, side, 3)) for at, side in enumerate((10, 20, 5, 30, 2))}
    assert list(split_pixels(encoded, 525)) == [[0, 1, 2], [3], [4]]
    assert [at for part in split_pixels(encoded, 500) for at in part] == list(encoded)
    for part in split_pixels(encoded, 500):
        assert len(part) == 1 or sum(encoded[at].shape[0] ** 2 for at in part) <= 500
    assert list(split_pixels({}, 500)) == []
