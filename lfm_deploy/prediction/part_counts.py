"""How many pictures of a part of a list there are of each kind."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields

from lfm_deploy.prediction.rows import Prediction
from lfm_deploy.storage.values import Count


@dataclass(frozen=True, slots=True, kw_only=True)
class PartCounts:
    """How many pictures of a part there are of each kind.

    Attributes:
        fake: number of pictures above the threshold.
        uncertain: number of pictures in the band without a verdict.
        real: number of pictures below the threshold and the band.
        not_judged: number of pictures that could not be judged.
        outside: number of pictures among all of these that are outside of what the detector was proved on.
    """

    fake: Count = 0
    uncertain: Count = 0
    real: Count = 0
    not_judged: Count = 0
    outside: Count = 0

    @property
    def pictures(self) -> int:
        """Number of pictures, judged or not."""
        return self.fake + self.uncertain + self.real + self.not_judged

    def __add__(self, other: "PartCounts") -> "PartCounts":
        mine, others = asdict(self), asdict(other)
        return PartCounts(**{field.name: mine[field.name] + others[field.name] for field in fields(self)})

    def describe(self, *, outside: bool) -> str:
        """Such as ``"7 pictures: 2 fake, 4 real, 1 not judged"``.

        Args:
            outside: whether to say how many are outside, which is known where a range was proved.
        """
        named = {"fake": self.fake, "uncertain": self.uncertain, "real": self.real, "not judged": self.not_judged}
        shown = [f"{count:,} {name}" for name, count in named.items() if count or name in ("fake", "real")]
        shown += [f"{self.outside:,} outside of what this detector was proved on"] if outside else []
        return f"{self.pictures:,} picture{'' if self.pictures == 1 else 's'}: {', '.join(shown)}"

    @classmethod
    def of(cls, rows: Iterable[Prediction]) -> "PartCounts":
        """Count rows.

        Args:
            rows: verdicts on pictures.
        """
        found = dict.fromkeys((field.name for field in fields(cls)), 0)
        for row in rows:
            found[row.verdict or "not_judged"] += 1
            found["outside"] += row.is_outside
        return cls(**found)
