"""The import table holds only if every module stands in it; import-linter itself runs in `make check`."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_every_module_is_a_noun_or_on_top():
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    nouns, *rest = contracts
    top = {name for name in nouns["forbidden_modules"] if name.startswith("lfm_deploy.")}
    modules = {
        f"lfm_deploy.{path.stem}"
        for path in (ROOT / "lfm_deploy").iterdir()
        if (path.suffix == ".py" and not path.name.startswith("__")) or (path / "__init__.py").is_file()
    }
    assert set(nouns["source_modules"]) | top == modules
    assert not set(nouns["source_modules"]) & top
    for contract in rest:
        assert top <= set(contract["forbidden_modules"])


def test_every_source_file_has_its_tests():
    tests = {path.stem.removeprefix("test_") for path in (ROOT / "tests").glob("test_*.py")}
    # Tested by another name: what their file is called would not say what they test.
    elsewhere = {
        "version": "packaging",
        "errors": "cli",
        "exporter": "proof",
        "loading": "trt",
        "inspection": "cli",
        "foreign_network": "foreign",
        "published": "published_tables",
        "tables": "document",
        "range_choice": "calibration",
    }
    elsewhere["data"] = "training_data"
    elsewhere["train"] = "run"
    for package in ("lfm_deploy", "export", "engines", "training", "calib"):
        for path in (ROOT / package).glob("*.py"):
            if not path.stem.startswith("__"):
                assert elsewhere.get(path.stem, path.stem) in tests, path
