"""What was passed over on the way to pictures, counted by kind, so that nothing is left out without a word."""

from collections import Counter


class LeftOut(Counter[str]):
    """How many entries of folders and shards were left out, by kind, such as ``".txt"`` or ``"hidden file"``."""

    def describe(self) -> str:
        """Such as ``"left out: 2 .txt, 1 hidden file"``; empty where nothing was."""
        if not self:
            return ""
        kinds = sorted(self.items(), key=lambda item: (-item[1], item[0]))
        return "left out: " + ", ".join(f"{count} {kind if count == 1 else _plural(kind)}" for kind, count in kinds)


def kind_of_name(name: str) -> str:
    """The kind of a file that is no picture: its suffix, or that it has none."""
    stem, dot, suffix = name.rpartition(".")
    return f".{suffix.lower()}" if dot and stem and len(suffix) <= 10 else "file without a suffix"


def _plural(kind: str) -> str:
    if kind.startswith("."):
        return kind
    first, space, rest = kind.partition(" ")
    return f"{first}s{space}{rest}" if rest.startswith(("without", "inside")) else f"{kind}s"
