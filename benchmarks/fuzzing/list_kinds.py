"""Bad lists: of pictures to judge, of labelled pictures, and folders of labelled pictures."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from random import Random

from fuzzing.damage import damage
from fuzzing.picture_kinds import add_entry
from fuzzing.rows import Wanted, judge_rows
from fuzzing.seeds import Seeds
from fuzzing.trial import Answer, Result, Trial

_BAD_LINES = (
    b"x" * 5000,
    b"x" * 255 + b".png",
    b"gone.png",
    b"a\0b.png",
    b"\xff\xfe\xff.png",
    b"no such folder/",
    b"p/../p/none.png",
    b"/dev/null",
    b"/proc/self/mem",
    b" a.png",
    b"*.gif",
    b"@l.txt",
    b"~/a.png",
    b"a.png/b.png",
    b"y/" * 2000,
)
_ENCODINGS = ("utf-8-sig", "utf-16", "utf-16-le", "utf-32", "latin-1")


def make_list(rng: Random, seeds: Seeds, folder: Path) -> Trial:
    """A list of pictures with lines that cannot be, in an odd encoding, or damaged."""
    home = folder / "p"
    home.mkdir()
    paths = [home / f"{index}.png" for index in range(3)]
    for path, tile in zip(paths, seeds.tiles, strict=False):
        path.write_bytes(tile)
    wanted = [
        Wanted(f"{path}", (seeds.known_logit(tile),), whole=True)
        for path, tile in zip(paths, seeds.tiles, strict=False)
    ]
    lines = [os.fsencode(path) for path in paths]
    choice = rng.random()
    if choice < 0.6:
        bad = rng.sample(_BAD_LINES, rng.randint(1, 3))
        for line in bad:
            lines.insert(rng.randint(1, len(lines)), line)  # in the first line two bytes may be an order mark
        content, what = rng.choice([b"\n", b"\r\n", b"\n\n"]).join(lines), f"lines {[line[:12] for line in bad]}"
        wanted += [Wanted(os.fsdecode(line), ()) for line in bad]
    elif choice < 0.8:
        encoding = rng.choice(_ENCODINGS)
        content, what = "\n".join(os.fsdecode(line) for line in lines).encode(encoding), encoding
        if encoding in ("utf-16-le", "utf-32"):  # without a mark, nothing says so: rows name what is not there
            wanted = []
    else:
        # Names alone: a path that is cut short is a folder, with all that lies below it.
        for path in paths:
            path.rename(folder / path.name)
        content, what = damage(rng, b"\n".join(os.fsencode(path.name) for path in paths))
        what = f"damaged: {what}"
    path = folder / "l.txt"
    path.write_bytes(content)
    given = rng.choice([[f"@{path}"], ["--from-list", f"{path}"]])
    judge = _judge_damaged(wanted, seeds.threshold) if choice >= 0.8 else judge_rows(wanted, seeds.threshold)
    return Trial(
        arguments=["predict", "--json", "--workdir", f"{seeds.deploy}", *given],
        what=what,
        names=("l.txt",),
        judge=judge,
        codes=(0, 1),
        refusable=choice >= 0.6,
    )


def _judge_damaged(wanted: list[Wanted], threshold: float) -> Callable[[Answer], tuple[Result, str]]:
    """Damage to a name may name another picture that is there: only logits and words count."""
    logits = tuple(logit for one in wanted for logit in one.logits)
    rows = judge_rows(
        [], threshold, others=lambda logit: logit in logits or any(abs(logit - one) < 1e-3 for one in logits)
    )

    def judge(answer: Answer) -> tuple[Result, str]:
        result, why = rows(answer)
        return (Result.REPORTED, why) if result is Result.CODE and answer.code == 1 else (result, why)

    return judge


def make_labels(rng: Random, seeds: Seeds, folder: Path) -> Trial:
    """A CSV list of labelled pictures with a bad line, or damaged."""
    lines = [b"path,label"]
    for index, tile in enumerate(seeds.tiles):
        (folder / f"{index}.png").write_bytes(tile)
        lines.append(b"%d.png,%s" % (index, (b"real", b"fake")[index % 2]))
    choice = rng.random()
    if choice < 0.5:
        line = rng.choice(
            [line + rng.choice([b",real", b",2", b",", b"", b",real,a,b,c", b',"real']) for line in _BAD_LINES]
        )
        lines.insert(rng.randint(1, len(lines)), line)
        content, what = b"\n".join(lines), f"line {line[:20]!r}"
    elif choice < 0.7:
        encoding = rng.choice(_ENCODINGS)
        content, what = b"\n".join(lines).decode().encode(encoding), encoding
    else:
        content, what = damage(rng, b"\n".join(lines))
    path = folder / "l.csv"
    path.write_bytes(content)

    def judge(answer: Answer) -> tuple[Result, str]:
        try:
            survey = json.loads(answer.out)[0]
        except (ValueError, LookupError):
            return Result.WRONG, f"prints no JSON: {answer.out[:100]!r}"
        judged = sum(part["real"] + part["fake"] + len(part["unreadable"]) for part in survey["sets"])
        # What blank lines are is settled: they count as none.
        lines = sum(bool(line.strip(b", \t\r")) for line in content.splitlines()) - 1
        if choice < 0.7 and judged < min(lines, len(seeds.tiles)):
            return Result.OMITTED, f"{judged} of {lines} lines count, exit {answer.code}"
        return (Result.RIGHT if answer.code == 0 else Result.REPORTED), ""

    return Trial(arguments=["suites", "--json", f"{path}"], what=what, names=("l.csv",), judge=judge, codes=(0, 1))


def make_suite(rng: Random, seeds: Seeds, folder: Path) -> Trial:
    """A folder of labelled pictures in which something odd lies."""
    root = folder / "s"
    for name in ("0_real", "1_fake"):
        (root / "a" / name / "sub").mkdir(parents=True)
        for index in range(2):
            (root / "a" / name / f"{index}.png").write_bytes(seeds.tiles[2 * (name == "1_fake") + index])
    words, expected = [], 4
    for number in range(rng.randint(1, 2)):
        what, wanted = add_entry(rng, seeds, root / "a" / "0_real", number)
        words.append(what)
        expected += len(wanted)

    def judge(answer: Answer) -> tuple[Result, str]:
        try:
            survey = json.loads(answer.out)[0]
        except (ValueError, LookupError):
            return Result.WRONG, f"prints no JSON: {answer.out[:100]!r}"
        judged = sum(part["real"] + part["fake"] + len(part["unreadable"]) for part in survey["sets"])
        left_out = sum(survey["left_out"].values())
        if judged < expected and not left_out:
            return Result.OMITTED, f"{judged} of {expected} pictures count, exit {answer.code}, nothing left out"
        return (Result.RIGHT if answer.code == 0 else Result.REPORTED), ""

    return Trial(
        arguments=["suites", "--json", f"{root}"],
        what=", ".join(words),
        names=("s/", "s:"),
        judge=judge,
        codes=(0, 1),
    )
