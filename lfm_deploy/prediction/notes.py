"""Notes beside a verdict: facts of the file that say whether the detector was ever good on such a picture."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from lfm_deploy.contract import SizePolicy
from lfm_deploy.pictures.facts import PictureFacts, read_facts
from lfm_deploy.pictures.provenance import Provenance, read_provenance
from lfm_deploy.prediction.proved_range import ProvedRange

OUTSIDE = "outside: "
_USUAL_SIDE = 256
# Sizes of screens in pixels, the longer side first: a picture of exactly this size was hardly cropped by a person.
_SCREENS = frozenset(
    [
        (1280, 720), (1280, 800), (1334, 750), (1366, 768), (1440, 900), (1536, 864), (1600, 900), (1680, 1050),
        (1792, 828), (1920, 1080), (1920, 1200), (2048, 1536), (2160, 1620), (2340, 1080), (2388, 1668), (2400, 1080),
        (2436, 1125), (2532, 1170), (2556, 1179), (2560, 1440), (2560, 1600), (2560, 1664), (2622, 1206), (2688, 1242),
        (2732, 2048), (2778, 1284), (2796, 1290), (2868, 1320), (2880, 1800), (2880, 1864), (3024, 1964), (3120, 1440),
        (3200, 1440), (3440, 1440), (3456, 2234), (3840, 2160),
    ]
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Background:
    """What is known of a picture besides its pixels.

    Attributes:
        notes: facts in words, in the order in which a picture came about; last what it is outside of.
        provenance: origin that the picture states; None where nobody asked.
    """

    notes: tuple[str, ...] = ()
    provenance: Provenance | None = None


def make_look(
    size: SizePolicy, proved: ProvedRange | None, *, provenance: bool = False
) -> Callable[[Path | bytes], Background]:
    """A function that finds the background of a picture, from its path or its bytes.

    Args:
        size: size policy under which pictures are judged.
        proved: range that the detector was proved on; None states facts alone.
        provenance: whether to read what pictures say of their origin.
    """

    def look(content: Path | bytes) -> Background:
        facts = read_facts(content)
        notes = () if facts is None else describe_facts(facts, size, proved)
        found = Background(notes=notes)
        return replace(found, provenance=read_provenance(content)) if provenance else found

    return look


def describe_facts(facts: PictureFacts, size: SizePolicy, proved: ProvedRange | None) -> tuple[str, ...]:
    """Notes on a file.

    Args:
        facts: facts of the file.
        size: size policy under which the picture is judged.
        proved: range that the detector was proved on; None states facts alone.
    """
    notes = [*_describe_storage(facts), *_describe_size(facts, size)]
    if facts.colour in ("palette", "grey"):
        notes.append(facts.colour)
    if (max(facts.width, facts.height), min(facts.width, facts.height)) in _SCREENS and not facts.camera:
        notes.append("screenshot-size")
    if facts.editor is not None:
        notes.append(f"editor: {facts.editor}")
    if facts.network is not None:
        notes.append(f"network: {facts.network}")
    outside = None if proved is None else proved.find_outside(facts)
    return (*notes, OUTSIDE + outside) if outside is not None else tuple(notes)


def _describe_storage(facts: PictureFacts) -> list[str]:
    notes = []
    if facts.quality is not None:
        notes.append(f"jpeg-q{facts.quality}{'' if facts.standard_tables else '-own-tables'}")
    if facts.sampling is not None and facts.sampling != "4:4:4":
        notes.append(f"{facts.format}-{facts.sampling.replace(':', '')}")
    if facts.format == "webp" and facts.lossy:
        notes.append("webp-lossy")
    if facts.format in ("avif", "jpeg2000", "heic"):
        notes.append(facts.format)
    return notes


def _describe_size(facts: PictureFacts, size: SizePolicy) -> list[str]:
    width, height = facts.width, facts.height
    if size == "native":
        return [f"smaller-than-{_USUAL_SIDE}"] if min(width, height) < _USUAL_SIDE else []
    if (width, height) == (size, size):
        return []
    return [f"{'resized' if min(width, height) < size else 'reduced'}-from-{width}x{height}"]
