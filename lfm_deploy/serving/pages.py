"""The pages for people: one that takes a dropped picture, and the documentation; they load nothing from elsewhere."""

import re
from base64 import b64encode
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

# What a browser may load for a page: what stands in it, pictures that it made itself, and answers of this service.
_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src blob: data:; connect-src 'self'; form-action 'none'; "
    "base-uri 'none'; frame-ancestors 'none'"
)


def make_page(provenance: Mapping[str, Any], *, evidence: bool) -> str:
    """The page that takes a picture.

    Args:
        provenance: engine and contract with their hashes.
        evidence: whether this service draws evidence.
    """
    return _render("page.html", provenance=provenance, evidence=evidence)


def make_documentation(document: Mapping[str, Any]) -> str:
    """The documentation of the service as a page.

    Args:
        document: description as OpenAPI has it.
    """
    return _render("docs.html", document=document)


def page_headers(page: str) -> dict[str, str]:
    """Headers that keep a page to itself: of scripts, those that stand in it may run, known by their hash.

    Args:
        page: text of the page.
    """
    scripts = [part.partition("</script>")[0] for part in page.split("<script>")[1:]]
    allowed = " ".join(f"'sha256-{b64encode(sha256(script.encode()).digest()).decode()}'" for script in scripts)
    policy = f"{_POLICY}; script-src {allowed}" if scripts else _POLICY
    return {
        "Content-Security-Policy": policy,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
    }


def _render(template: str, **context: Any) -> str:
    environment = Environment(
        loader=PackageLoader("lfm_deploy.serving", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["code"] = _mark_code
    return environment.get_template(template).render(context).strip() + "\n"


def _mark_code(text: str) -> Markup:
    """What stands between backticks is code; everything else stays text."""
    return Markup(re.sub(r"`([^`]*)`", r"<code>\1</code>", str(escape(text))))  # noqa: S704  # escaped before
