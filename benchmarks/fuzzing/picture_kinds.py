"""Bad pictures: damaged, cut short, of another format than their name says, with odd headers and odd places."""

import io
import os
import struct
import zlib
from dataclasses import replace
from pathlib import Path
from random import Random

from PIL import Image

from fuzzing.damage import damage
from fuzzing.rows import Wanted, judge_rows
from fuzzing.seeds import Seeds
from fuzzing.trial import Trial


def make_picture(rng: Random, seeds: Seeds, folder: Path) -> Trial:
    """A damaged picture between two whole ones in a folder, or alone."""
    suffix = rng.choice(sorted(seeds.pictures))
    if rng.random() < 0.8:
        content, what = damage(rng, seeds.pictures[suffix])
    else:
        content, what = _make_odd(rng, seeds, suffix)
    if rng.random() < 0.1:
        suffix = rng.choice(sorted(seeds.pictures))
        what += f", named {suffix}"
    return _try_picture(rng, seeds, folder, f"b{suffix}", content, what)


def _try_picture(rng: Random, seeds: Seeds, folder: Path, name: str, content: bytes, what: str) -> Trial:
    alone = rng.random() < 0.1
    place = folder / "p"
    place.mkdir()
    (place / name).write_bytes(content)
    wanted = [Wanted(f"{place / name}", _right_logits(seeds, content))]
    if not alone:
        for other, tile in (("a.png", seeds.tiles[0]), ("c.png", seeds.tiles[1])):
            (place / other).write_bytes(tile)
            wanted.append(Wanted(f"{place / other}", (seeds.known_logit(tile),), whole=True))
    paths = [f"{place / name}"] if alone or rng.random() < 0.3 else [f"{place}"]
    if len(paths) == 1 and paths[0] != f"{place}":
        wanted = wanted[:1]
    strict = alone and rng.random() < 0.3
    return Trial(
        arguments=["predict", "--json", *(["--strict"] if strict else []), "--workdir", f"{seeds.deploy}", *paths],
        what=f"{name}: {what}",
        names=(name,),
        judge=judge_rows(wanted, seeds.threshold),
        codes=(0,) if strict else (0, 1),
        refusable=strict,
    )


def _right_logits(seeds: Seeds, content: bytes) -> tuple[float, ...]:
    """What plain Pillow makes of it; also without texts of a PNG, which no pixel depends on."""
    logit = seeds.logit(content)
    if logit is None and content[33:].startswith(_LONG_TEXT):
        logit = seeds.known_logit(seeds.pictures[".png"])
    return () if logit is None else (logit,)


def _make_odd(rng: Random, seeds: Seeds, suffix: str) -> tuple[bytes, str]:
    kind = rng.randrange(8)
    png = seeds.pictures[".png"]
    if kind == 0:
        return png[:33] + _LONG_TEXT + png[33:], "a PNG with a long text"
    if kind == 1:
        width, height = rng.choice([(0, 5), (1, 1), (2**31 - 1, 1), (65535, 65535), (20000, 20000), (2**32 - 1, 3)])
        header = struct.pack(">II", width, height) + png[24:29]
        return png[:8] + _chunk(b"IHDR", header) + png[33:], f"a PNG of {width}x{height}"
    if kind == 2:
        name, data = rng.choice([b"IDAT", b"tRNS", b"PLTE", b"acTL", b"fdAT", b"eXIf", b"iCCP"]), rng.randbytes(40)
        return png[:33] + _chunk(name, data) + png[33:], f"a chunk {name!r} of chance"
    if kind == 3:
        mode = rng.choice(["1", "L", "LA", "P", "RGBA", "I;16", "I", "F", "CMYK", "YCbCr"])
        return _saved(seeds, mode, "TIFF" if mode in ("I", "F", "CMYK", "YCbCr") else "PNG"), f"mode {mode}"
    if kind == 4:
        exif = Image.Exif()
        exif[0x0112] = rng.choice([0, 3, 6, 8, 99])
        exif[0x010E] = "x" * rng.choice([1, 60000])
        buffer = io.BytesIO()
        Image.open(io.BytesIO(png)).save(buffer, "JPEG", exif=exif.tobytes()[: rng.choice([12, 100, 65000])])
        return buffer.getvalue(), "odd EXIF"
    if kind == 5:
        return seeds.pictures[rng.choice(sorted(seeds.pictures))], "of another format"
    if kind == 6:
        text = rng.choice(
            [b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"]
        )
        return text, "text, no picture"
    header = b"P6\n" + rng.choice([b"0 0", b"-1 5", b"99999999999 1", b"9" * 5000 + b" 1", b"2 2"]) + b"\n255\n"
    return header + bytes(rng.choice([0, 11, 12])), "an odd PPM header"


def _saved(seeds: Seeds, mode: str, form: str) -> bytes:
    picture = Image.open(io.BytesIO(seeds.pictures[".png"]))
    converted = picture.convert("L").convert(mode) if mode in ("I;16", "I", "F") else picture.convert(mode)
    buffer = io.BytesIO()
    converted.save(buffer, form)
    return buffer.getvalue()


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


_LONG_TEXT = _chunk(b"iTXt", b"workflow\0\1\0\0\0" + zlib.compress(b"b" * 2_000_000))


def make_folder(rng: Random, seeds: Seeds, folder: Path) -> Trial:
    """A folder in which something other than pictures lies: links, pipes, odd names, what cannot be listed."""
    place = folder / "p"
    (place / "sub").mkdir(parents=True)
    wanted = []
    for name, tile in zip(("a.png", "sub/b.png", "z.png"), seeds.tiles, strict=False):
        (place / name).write_bytes(tile)
        wanted.append(Wanted(f"{place / name}", (seeds.known_logit(tile),), whole=True))
    words: list[str] = []
    bad: list[Wanted] = []
    for _ in range(rng.randint(1, 3)):
        what, found = add_entry(rng, seeds, place, len(words))
        words.append(what)
        bad += found
    named = rng.random() < 0.3
    # The shell's ** goes through no link to a folder, as folders do not.
    path = f"{place}/**/*.png" if named else f"{place}"
    return Trial(
        arguments=["predict", "--json", "--workdir", f"{seeds.deploy}", path],
        what=f"{'pattern' if named else 'folder'} with {', '.join(words)}",
        names=("p",),
        judge=judge_rows([*wanted, *(_made_optional(bad) if named else bad)], seeds.threshold),
        codes=(0, 1),
        refusable=False,
    )


def _made_optional(wanted: list[Wanted]) -> list[Wanted]:
    """Of a pattern, what does not match has no row."""
    return [replace(one, whole=False, optional=True) for one in wanted]


def add_entry(rng: Random, seeds: Seeds, place: Path, number: int) -> tuple[str, list[Wanted]]:
    """Put something odd into a folder: what it is, and the picture that has to have a row, if any."""
    home = rng.choice([place, place / "sub"])
    path = home / f"n{number}.png"
    kind = rng.randrange(12)
    if kind < 5:
        targets = [
            ("itself", path.name),
            ("nowhere", "gone.png"),
            ("a parent", ".."),
            ("here", "."),
            ("a picture", "/"),
        ]
        what, target = targets[kind]
        if what == "a picture":
            other = place.parent / f"far{number}.png"
            other.write_bytes(seeds.tiles[3])
            path.symlink_to(other)
            return f"a link to {what}", [Wanted(f"{path}", (seeds.known_logit(seeds.tiles[3]),), whole=True)]
        path.symlink_to(target)
        return f"a link to {what}", [Wanted(f"{path}", ())] if kind < 2 else []
    if kind == 5:
        os.mkfifo(path)
        return "a pipe", [Wanted(f"{path}", ())]
    if kind == 6:
        path.mkdir()
        return "a folder named .png", []
    if kind == 7:
        path.write_bytes(b"")
        return "an empty file", [Wanted(f"{path}", ())]
    if kind == 8:
        name = rng.choice(
            ["a\nb.png", "\udcff\udcfe.png", " .png", "-x.png", "é" * 100 + ".png", "[a].png", "#.PNG", "a\tb.png"]
        )
        name = f"{number}{name}"
        (home / name).write_bytes(seeds.tiles[3])
        return f"a file {name[:12]!r}", [Wanted(f"{home / name}", (seeds.known_logit(seeds.tiles[3]),), whole=True)]
    if kind == 9:
        (home / f".h{number}.png").write_bytes(seeds.tiles[3])
        (home / f"n{number}.txt").write_bytes(b"text")
        return "a hidden file and a text", []
    if kind == 10:
        deep = home / "/".join([f"{number}" * 20] * 40)
        deep.mkdir(parents=True, exist_ok=True)
        (deep / "e.png").write_bytes(seeds.tiles[3])
        return "a deep folder", [Wanted(f"{deep / 'e.png'}", (seeds.known_logit(seeds.tiles[3]),), whole=True)]
    (home / f"n{number}.tar").write_bytes(b"shard")
    return "a shard", []
