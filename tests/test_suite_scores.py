import pytest

from lfm_deploy.errors import SuiteError
from lfm_deploy.scoring.scorers import published_reading
from lfm_deploy.scoring.suite_scores import collect_scores, find_in_both, make_tasks
from lfm_deploy.suites import load_suites


@pytest.fixture
def suite(tmp_path):
    for name in ("one/0_real/a", "one/1_fake/b", "two/0_real/c", "two/1_fake/d"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / f"{name}.png").write_bytes(name.encode())
    return load_suites(tmp_path)[0]


def test_a_task_holds_the_files_of_its_set(suite):
    planned = make_tasks(suite, published_reading(256, batch=2))
    tasks = planned.tasks
    assert [[path.name for path in task.paths] for task in tasks] == [["a.png", "b.png"], ["c.png", "d.png"]]
    assert all(one.still_holds(path) for task in tasks for one, path in zip(task.prints, task.paths, strict=True))


def test_a_content_under_both_labels_is_one_pair(suite):
    (real, fake), (other, _) = ([image.path for image in part.images] for part in suite.sets)
    for path in (fake, other):
        path.write_bytes(real.read_bytes())
    (pair,) = find_in_both(make_tasks(suite, published_reading(256, batch=2)))
    assert (pair.real, pair.fake) == (real, fake)


def test_scores_leave_out_what_could_not_be_judged(suite):
    planned = make_tasks(suite, published_reading(256, batch=2))
    tasks = planned.tasks
    tasks[0].found = {"a": [1.0, 2.0], "b": [3.0, 4.0]}
    tasks[1].found = {"a": [5.0, 6.0], "b": [7.0, 8.0]}
    scores, skipped = collect_scores(planned)
    assert skipped == []
    assert [(name, part.logits.tolist(), part.labels.tolist()) for name, part in scores["b"]] == [
        ("one", [3, 4], [0, 1]),
        ("two", [7, 8], [0, 1]),
    ]
    tasks[1].found["b"][1] = "cannot be read"
    with pytest.raises(SuiteError, match="two: of 2 pictures 1 can be read"):
        collect_scores(planned)
