"""What every suite is made of: labelled pictures in test sets."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from lfm_deploy.contract import SizePolicy
from lfm_deploy.errors import SuiteError
from lfm_deploy.pictures.left_out import LeftOut

CLASS_FOLDERS = ("0_real", "1_fake")


@dataclass(frozen=True, slots=True)
class LabelledImage:
    """A picture file and its label: 0 is real, 1 is fake; the category inside its test set, None without any."""

    path: Path
    label: int
    category: str | None = None


@dataclass(frozen=True, slots=True)
class TestSet:
    """Pictures of one generator, with real ones to tell them from."""

    __test__ = False  # its name makes pytest think that it holds tests

    name: str
    images: tuple[LabelledImage, ...]

    @property
    def has_both_classes(self) -> bool:
        """Whether average precision is defined for it."""
        return len({image.label for image in self.images}) == len(CLASS_FOLDERS)

    @property
    def categories(self) -> tuple[str, ...]:
        """Their names, sorted; empty for a set without any."""
        return tuple(sorted({image.category for image in self.images if image.category is not None}))

    def count(self, label: int) -> int:
        """How many pictures have a label."""
        return sum(image.label == label for image in self.images)


@dataclass(frozen=True, slots=True)
class Suite:
    """Test sets that are judged under one size policy.

    Attributes:
        name: name of a published suite, or of the folder or list.
        size: side in pixels that pictures are resized to, or ``"native"``.
        sets: the test sets.
        published: whether the suite is one of the paper's, whose figures may stand beside one's own.
        left_out: counter of what was passed over in its folders, by kind.
    """

    name: str
    size: SizePolicy
    sets: tuple[TestSet, ...]
    published: bool = False
    left_out: LeftOut = field(default_factory=LeftOut, compare=False)


def require_a_complete_set(sets: Iterable[TestSet], where: Path, remedy: str) -> None:
    """Refuse test sets of which none has both classes; some may lack one, beside others that do not.

    Args:
        sets: the test sets.
        where: path that the sets come from, for the message.
        remedy: sentence on what each set needs, for the message.

    Raises:
        SuiteError: no set has both classes, so that no average precision would be defined.
    """
    if not any(part.has_both_classes for part in sets):
        raise SuiteError(
            f"{where}: no test set has pictures of both classes, so average precision is undefined; {remedy}"
        )
