"""What an exploration says in words, the same on the terminal, in pictures and on the page."""

from lfm_deploy.report.exploration_schema import ExplorationReport


def describe_result(report: ExplorationReport) -> tuple[str, str]:
    """A headline, and a line with what was counted and measured."""
    counts, embedding = report["counts"], report["embedding"]
    headline = f"{embedding['vectors']} of {counts['judged']} pictures, by t-SNE"
    parts = [f"{embedding['dimensions']} values a picture"]
    if judged := counts["right"] + counts["wrong"]:
        parts.append(f"{counts['right']} of {judged} judged right ({100 * counts['right'] / judged:.1f} %)")
    parts.append(describe_separation(report["silhouette"]))
    return headline, "; ".join(parts)


def describe_separation(score: float | None) -> str:
    """The silhouette score with what it is of, or why there is none."""
    if score is None:
        return "no silhouette score: it takes two labelled pictures of each class"
    return f"silhouette score of real against fake {score:.2f}, from -1 to 1"


def describe_method(report: ExplorationReport) -> str:
    """How the points came about, and what they do not mean."""
    embedding, counts = report["embedding"], report["counts"]
    taken = counts["judged"] + counts["skipped"]
    sample = f"A balanced sample of {counts['available']} pictures. " if taken < counts["available"] else ""
    preparation, checkpoint = embedding["preparation"], report["checkpoint"]
    return (
        f"{sample}{preparation[0].upper()}{preparation[1:]}; t-SNE with perplexity {embedding['perplexity']:.3g}, "
        f"{embedding['iterations']} iterations at most, seed {report['seed']}. Neighbours mean something; distances "
        "between clouds, their sizes and the axes do not. The silhouette score is taken of the vectors themselves, not "
        f"of this plane: 0 where the classes lie in each other. {checkpoint['file']}, sha256 "
        f"{checkpoint['sha256'][:12]}."
    )


def shorten(text: str, longest: int) -> str:
    """A name on one line without signs that cannot be printed; its middle goes where it is too long."""
    line = "".join(sign if sign.isprintable() else "?" for sign in text)
    if len(line) <= longest:
        return line
    tail = (longest - 1) // 2
    return f"{line[: longest - 1 - tail]}…{line[len(line) - tail :]}"
