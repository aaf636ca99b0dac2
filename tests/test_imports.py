"""The house as files lie in it; that each floor imports only floors below it is import-linter's, in `make check`."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("lfm_deploy", "export", "engines", "training", "calib")

# Tested by another name: what their file is called would not say what they test, or they are tested together.
ELSEWHERE = {
    "application": "service",
    "bodies": "service",
    "catalogue": "suites",
    "card_head": "card",
    "card_sources": "card",
    "categories": "summary",
    "checkpoint_file": "wrapping",
    "choice_file": "cpu_settings",
    "data": "training_data",
    "engine_document": "document",
    "engine_metrics": "summary",
    "engine_schema": "schema",
    "envelope_values": "schema",
    "environment": "document",
    "evidence_desk": "service_page",
    "exploration_document": "cli_explore",
    "exploration_page": "cli_explore",
    "exploration_schema": "schema",
    "exporter": "proof",
    "feature_images": "feature_plots",
    "feature_texts": "feature_plots",
    "findings_schema": "schema",
    "foreign_network": "foreign",
    "fused_choice": "fused",
    "fused_runner": "fused",
    "golden": "warm_up",
    "illustrations": "page",
    "inference_endpoints": "open_inference",
    "inspection": "cli",
    "job": "first_stage",
    "judgement": "selection",
    "kernels": "kernel_table",
    "labelled": "suites",
    "jpegs": "decoders",
    "left_out": "folders",
    "loading": "trt",
    "make_samples": "self_test",
    "markdown_parts": "markdown",
    "members": "shards",
    "nvimagecodec_decoder": "decoders",
    "opening": "decoding",
    "origin": "deployment",
    "part_counts": "part_files",
    "plans": "builder",
    "open_api": "service_page",
    "pages": "service_page",
    "png_texts": "decoding",
    "progress": "build_progress",
    "provenance": "service",
    "published": "published_tables",
    "range_choice": "calibration",
    "refusals": "service",
    "scores": "comparison",
    "simplejpeg_decoder": "decoders",
    "service_metrics": "service",
    "settings": "service",
    "tables": "document",
    "threshold_values": "measurement",
    "train": "run",
    "triton_config": "repository",
    "triton_model": "repository",
    "triton_readme": "repository",
    "version": "packaging",
    "way_choice": "cpu_choice",
    "contest": "gpu_choice",
}


def source_files():
    for package in PACKAGES:
        yield from (path for path in (ROOT / package).rglob("*.py") if not path.stem.startswith("__"))


def test_every_source_file_has_its_tests():
    tests = {path.stem.removeprefix("test_") for path in (ROOT / "tests").glob("test_*.py")}
    rooms = {"cli", "plots", "amx"}  # tested as wholes
    missing = [
        str(path)
        for path in source_files()
        if path.parent.name not in rooms and ELSEWHERE.get(path.stem, path.stem) not in tests
    ]
    assert not missing


def test_few_files_lie_flat():
    assert len(list((ROOT / "lfm_deploy").glob("*.py"))) <= 16


def test_every_room_stands_on_a_floor():
    """A folder that the contract doesn't name could import whatever it likes."""
    (contract,) = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    floors = {name.strip(" ()") for floor in contract["layers"] for name in floor.split("|")}
    rooms = {f"lfm_deploy.{path.parent.name}" for path in (ROOT / "lfm_deploy").glob("*/__init__.py")}
    assert rooms | set(PACKAGES) - {"lfm_deploy"} <= floors
