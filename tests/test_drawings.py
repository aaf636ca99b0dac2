import subprocess
import sys

import numpy as np
import pytest

from lfm_deploy.report.drawings import Drawings

LOGITS, LABELS = np.linspace(-2, 2, 9), np.array([0, 1, 1] * 3)


def draw(drawings, logits=LOGITS, title="t"):
    return drawings.draw("histograms.plot_histogram", logits, LABELS, 0.0, title=title, scope="s")


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "drawings"


def test_a_kept_drawing_is_the_drawing(folder):
    fresh = draw(Drawings())
    assert fresh.startswith("<svg ")
    assert draw(Drawings(folder)) == draw(Drawings(folder)) == fresh
    assert len(list(folder.iterdir())) == 1


def test_other_values_are_another_drawing(folder):
    drawings = Drawings(folder)
    moved = LOGITS.copy()
    moved[4] += 1
    found = {draw(drawings), draw(drawings, logits=moved), draw(drawings, title="u")}
    assert len(found) == len(list(folder.iterdir())) == 3


def test_one_that_was_cut_short_is_drawn_again(folder):
    fresh = draw(Drawings(folder))
    (path,) = folder.iterdir()
    path.write_text(fresh[:100])
    assert draw(Drawings(folder)) == fresh
    assert path.read_text() == fresh


def test_what_is_not_used_any_more_is_deleted(folder):
    draw(Drawings(folder), title="old")
    drawings = Drawings(folder)
    draw(drawings)
    drawings.remove_others()
    assert len(list(folder.iterdir())) == 1
    Drawings(folder / "missing").remove_others()


def test_what_is_kept_needs_no_matplotlib(folder):
    draw(Drawings(folder))
    code = (
        "import sys, numpy as np, pathlib\n"
        "from lfm_deploy.report.drawings import Drawings\n"
        "import lfm_deploy.report.page\n"
        f"Drawings(pathlib.Path({str(folder)!r})).draw('histograms.plot_histogram', np.linspace(-2, 2, 9), "
        "np.array([0, 1, 1] * 3), 0.0, title='t', scope='s')\n"
        "assert 'matplotlib' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
