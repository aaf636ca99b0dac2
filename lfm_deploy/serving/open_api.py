"""The service described as OpenAPI 3.1 has it; ``/docs`` shows it, and generators of clients read it."""

from typing import Any

from lfm_deploy.serving.refusals import Reason
from lfm_deploy.serving.settings import ServiceSettings
from lfm_deploy.version import __version__

_NUMBER, _TEXT = {"type": ["number", "null"]}, {"type": ["string", "null"]}
_ROW = {
    "type": "object",
    "description": "The row of `lfm-deploy predict --json`; later versions may have more columns.",
    "required": ["path", "logit", "probability", "verdict", "error"],
    "properties": {
        "path": {"type": "string", "description": "Name of the file."},
        "logit": _NUMBER | {"description": "The detector's number; above the threshold is fake."},
        "probability": _NUMBER | {"description": "Sigmoid of the logit; not calibrated."},
        "verdict": _TEXT | {"description": "`fake` or `real`; null where the picture could not be judged."},
        "error": _TEXT | {"description": "Why the picture could not be judged."},
    },
}
_ENGINE = {
    "type": "object",
    "description": "What gave the verdict.",
    "required": ["name", "file", "sha256", "runtime", "precision", "device"],
    "properties": {name: {"type": "string"} for name in ("name", "file", "sha256", "runtime", "precision", "device")},
}
_VERDICTS = {
    "type": "object",
    "required": ["rows", "engine", "contract", "contract_sha256", "threshold", "version"],
    "properties": {
        "rows": {"type": "array", "items": {"$ref": "#/components/schemas/Row"}},
        "engine": {"$ref": "#/components/schemas/Engine"},
        "contract": {"type": "object", "description": "How a picture becomes an input, and a logit a decision."},
        "contract_sha256": {"type": "string"},
        "threshold": {"type": "number"},
        "version": {"type": "string"},
        "error": {"type": "string", "description": "Where not one picture could be judged: why not the first."},
        "reason": {"$ref": "#/components/schemas/Reason"},
    },
}
_REFUSAL = {
    "type": "object",
    "required": ["error", "reason"],
    "properties": {
        "error": {"type": "string", "description": "For people, on one line."},
        "reason": {"$ref": "#/components/schemas/Reason"},
    },
}
_REASON = {"type": "string", "enum": [str(reason) for reason in Reason], "description": "For programs."}
_BINARY = {"type": "string", "format": "binary"}


def describe_api(settings: ServiceSettings, *, evidence: bool) -> dict[str, Any]:
    """The document.

    Args:
        settings: limits of the service.
        evidence: whether this service draws evidence.
    """
    schemas = {"Row": _ROW, "Engine": _ENGINE, "Verdicts": _VERDICTS, "Refusal": _REFUSAL, "Reason": _REASON}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "lfm-deploy serve",
            "version": __version__,
            "description": "Says of pictures whether they are real or generated, exactly as `lfm-deploy predict` does.",
        },
        "paths": _verdict_paths(settings, evidence) | _health_paths() | _inference_paths(),
        "components": {"schemas": schemas},
    }


def _verdict_paths(settings: ServiceSettings, evidence: bool) -> dict[str, Any]:
    limits = f"At most {settings.max_body_bytes} bytes a request and {settings.max_pixels} pixels a picture."
    body = {
        "required": True,
        "description": f"The bytes of one picture, whatever the content type says, or a form with files. {limits}",
        "content": {
            "application/octet-stream": {"schema": _BINARY},
            "multipart/form-data": {"schema": {"type": "object", "additionalProperties": _BINARY}},
        },
    }
    name = {"name": "name", "in": "query", "schema": {"type": "string"}, "description": "Name for the row."}
    verdicts = {"description": "A row for each picture.", "content": _as_json("Verdicts")}
    judge = {
        "summary": "Verdicts on pictures",
        "description": "Of several pictures each has its row, with the reason where it could not be judged. Where not "
        "one could, the status is that of the first.",
        "parameters": [name],
        "requestBody": body,
        "responses": {"200": verdicts} | _refusals(400, 408, 413, 415, 422, 500, 503),
    }
    paths = {"/v1/verdict": {"post": judge}}
    if evidence:
        drawing = {"description": "Red speaks for fake, blue for real.", "content": {"image/png": {"schema": _BINARY}}}
        paths["/v1/evidence"] = {
            "post": {
                "summary": "Where the verdict on one picture came from",
                "description": "By the checkpoint in PyTorch; slow, and one after the other.",
                "requestBody": body,
                "responses": {"200": drawing} | _refusals(400, 408, 413, 415, 422, 500, 503),
            }
        }
    return paths


def _health_paths() -> dict[str, Any]:
    text = {"description": "Metrics.", "content": {"text/plain": {"schema": {"type": "string"}}}}
    return {
        "/healthz": {"get": {"summary": "Whether the process lives", "responses": {"200": _plain("It does.")}}},
        "/readyz": {
            "get": {
                "summary": "Whether pictures are taken: after the warm-up, until the end is asked for",
                "responses": {"200": _plain("They are."), "503": _plain("Not now.")},
            }
        },
        "/metrics": {"get": {"summary": "Figures for Prometheus", "responses": {"200": text}}},
    }


def _inference_paths() -> dict[str, Any]:
    infer = {
        "summary": "Logits of pixels",
        "description": "Open Inference Protocol 2. Input `image`, UINT8 `[N, H, W, 3]` as the contract says; output "
        "`logit`, FP32 `[N, 1]`. JSON, or the binary extension with the header `Inference-Header-Content-Length`.",
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": {"type": "object"}},
                "application/octet-stream": {"schema": _BINARY},
            },
        },
        "responses": {"200": _plain("Logits.")} | _refusals(400, 408, 413, 500, 503),
    }
    summaries = {
        "/v2": "What this server is",
        "/v2/health/live": "Whether the process lives",
        "/v2/health/ready": "Whether pictures are taken",
        "/v2/models/lfm": "Inputs, outputs and contract",
        "/v2/models/lfm/ready": "Whether pictures are taken",
        "/v2/models/lfm/config": "The configuration as clients of Triton ask for it",
    }
    paths: dict[str, Any] = {
        path: {"get": {"summary": text, "responses": {"200": _plain("Yes, or what was asked for.")}}}
        for path, text in summaries.items()
    }
    return paths | {"/v2/models/lfm/infer": {"post": infer}}


def _plain(description: str) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": {"type": "object"}}}}


def _refusals(*statuses: int) -> dict[str, Any]:
    texts = {
        400: "The request cannot be read.",
        408: "The body was too slow.",
        413: "Too many bytes or pixels; nothing was decoded.",
        415: "No picture of a known format.",
        422: "The picture cannot be judged; the reason is predict's.",
        500: "The service failed.",
        503: "The queue is full, or the service is not ready; Retry-After says when to ask again.",
    }
    return {str(status): {"description": texts[status], "content": _as_json("Refusal")} for status in statuses}


def _as_json(schema: str) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
