"""The README of a model repository: what is in it, what it needs, and what was left out."""

from collections.abc import Mapping, Sequence

from jinja2 import Environment, PackageLoader, StrictUndefined

from lfm_deploy.artifacts import GraphInfo
from lfm_deploy.engine_info import EngineInfo
from lfm_deploy.version import __version__


def write_readme(graph: GraphInfo, plans: Sequence[EngineInfo], left_out: Mapping[str, str]) -> str:
    """The text, in Markdown.

    Args:
        graph: contract and provenance of the graph.
        plans: sidecars of the plans; empty where there are none.
        left_out: reason why a file is not in the repository, by the file's name.
    """
    environment = Environment(
        loader=PackageLoader("lfm_deploy.serving", "templates"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,  # noqa: S701  # Markdown, not HTML
    )
    context = {"graph": graph, "plans": plans, "left_out": left_out, "version": __version__}
    return environment.get_template("triton.md").render(context).strip() + "\n"
