"""An exploration as one HTML file that needs nothing else: a view of its JSON and of the images of its examples."""

import base64
import io
from collections.abc import Sequence
from pathlib import PurePath

from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from lfm_deploy.exploration.examples import Example
from lfm_deploy.report.exploration_schema import ExampleValues, ExplorationReport, PointValues
from lfm_deploy.report.feature_images import PANELS, draw_panels
from lfm_deploy.report.feature_texts import describe_method, describe_result

# The plane of the points in the page's own units, and a margin for the rings.
_WIDTH, _MARGIN = 1000, 40


class _ShownExample(ExampleValues):
    """An example with the addresses of its images."""

    images: list[str]


def make_exploration_page(report: ExplorationReport, examples: Sequence[Example]) -> str:
    """The page of an exploration.

    Args:
        report: report from ``make_exploration_report``.
        examples: examples that ``report["examples"]`` describes.
    """
    environment = Environment(
        loader=PackageLoader("lfm_deploy.report", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters["filename"] = lambda path: PurePath(path).name
    points, height = _place(report["points"])
    headline, result = describe_result(report)
    return environment.get_template("explore.html").render(
        report=report,
        headline=headline,
        result=result,
        method=describe_method(report),
        width=_WIDTH,
        height=height,
        points=points,
        panels=PANELS,
        kinds=_group(report["examples"], examples),
    )


def _place(points: Sequence[PointValues]) -> tuple[list[PointValues], float]:
    """The points in the units of the page, and the height of the plane; one scale for both axes, y downwards."""
    low = {key: min(point[key] for point in points) for key in ("x", "y")}
    extent = {key: max(point[key] for point in points) - low[key] for key in ("x", "y")}
    scale = (_WIDTH - 2 * _MARGIN) / (max(extent.values()) or 1)
    height = round(scale * extent["y"] + 2 * _MARGIN, 1)
    left = (_WIDTH - scale * extent["x"]) / 2
    placed: list[PointValues] = [
        {
            **point,
            "x": round(left + scale * (point["x"] - low["x"]), 1),
            "y": round(height - _MARGIN - scale * (point["y"] - low["y"]), 1),
        }
        for point in points
    ]
    return placed, height


def _group(rows: Sequence[ExampleValues], examples: Sequence[Example]) -> dict[str, list[_ShownExample]]:
    """Examples with their images, kind by kind."""
    kinds: dict[str, list[_ShownExample]] = {}
    for row, example in zip(rows, examples, strict=True):
        images = [_as_address(image) for image in draw_panels(example)]
        kinds.setdefault(row["kind"], []).append({**row, "images": images})
    return kinds


def _as_address(image: Image.Image) -> str:
    """The image inside the page, without loss: residuals are what lossy formats change first."""
    content = io.BytesIO()
    image.save(content, format="WEBP", lossless=True, method=4)
    return f"data:image/webp;base64,{base64.b64encode(content.getvalue()).decode()}"
