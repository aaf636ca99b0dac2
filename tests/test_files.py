import csv
import io
import json

from sample_report import NASTY, make_sample

from lfm_deploy.prediction.proved_range import read_proved_range
from lfm_deploy.report.files import render_all
from lfm_deploy.workdir import Workdir


def test_all_files_of_a_report_are_rendered_and_only_drawings_are_written(tmp_path):
    report, rows = make_sample(per_class=4)
    report |= {"quantisation": {}, "envelope": None, "engines": report["engines"][:2]}
    rows = [row for row in rows if row["engine"] in ("pytorch fp32", "onnxruntime fp32")]
    files = render_all(report, rows, {}, Workdir(tmp_path))
    assert [path.name for path in files] == ["report.json", "report.html", "report.md", "report.xml", "scores.csv"]
    assert {path.parent for path in files} == {tmp_path}
    assert [path.name for path in tmp_path.iterdir()] == ["drawings"]
    assert {path.suffix for path in (tmp_path / "drawings").iterdir()} == {".svg"}
    assert json.loads(files[tmp_path / "report.json"]) == report
    assert files[tmp_path / "report.html"].startswith(b"<!doctype html>")
    read = list(csv.DictReader(io.StringIO(files[tmp_path / "scores.csv"].decode(), newline="")))
    assert [(row["path"], float(row["logit"])) for row in read] == [(row["path"], row["logit"]) for row in rows]
    assert any(row["path"].endswith(NASTY) for row in read)
    assert list(read[0]) == ["engine", "suite", "set", "category", "path", "label", "logit", "notes"]


def test_a_file_name_that_is_not_utf8_spoils_no_file(tmp_path):
    report, _ = make_sample(per_class=2)
    odd = b"caf\xe9.png".decode(errors="surrogateescape")
    report |= {"engines": report["engines"][-1:], "quantisation": {}, "envelope": None}
    report["skipped"] = [{"path": odd, "reason": "the file is empty"}]
    for path, content in render_all(report, [], {}, Workdir(tmp_path)).items():
        assert content.decode()
        if path.suffix in (".json", ".html", ".md"):
            assert "caf?.png" in content.decode()


def test_the_envelope_has_a_file_that_predictions_read(tmp_path):
    report, rows = make_sample(per_class=2)
    report |= {"quantisation": {}, "engines": report["engines"][:1]}
    rows = [row for row in rows if row["engine"] == "pytorch fp32"]
    workdir = Workdir(tmp_path)
    files = render_all(report, rows, {}, workdir)
    workdir.envelope.write_bytes(files[workdir.envelope])
    proved = read_proved_range(workdir.envelope)
    assert proved.checkpoint_sha256 == report["engines"][0]["sha256"]
    names = [condition["name"] for condition in report["envelope"]["conditions"]]
    assert [f"jpeg {quality}" for quality in proved.jpeg_tried] == [name for name in names if name.startswith("jpeg")]
