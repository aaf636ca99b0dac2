import numpy as np
import pytest
from PIL import Image

from lfm_deploy.suites import describe_suites
from lfm_deploy.suites.survey import survey_suites


@pytest.fixture
def draw(tmp_path):
    """Save a small picture of its own for each seed, at its place below the folder."""

    def draw(name, seed, **options):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(seed).integers(0, 256, (48, 48, 3), np.uint8)).save(path, **options)
        return path

    return draw


def test_a_suite_that_is_fine(draw, tmp_path):
    for seed, name in enumerate(["s/cat/0_real/a.png", "s/cat/1_fake/b.png", "s/dog/1_fake/c.png"]):
        draw(name, seed)
    (survey,) = survey_suites(tmp_path)
    (part,) = survey.sets
    assert survey.is_fine
    assert (part.real, part.fake, part.categories, part.repeated) == (1, 2, ("cat", "dog"), 0)


def test_the_same_pixels_under_both_labels_in_files_that_differ(draw, tmp_path):
    real = draw("one/0_real/a.png", 1)
    fake = draw("two/1_fake/b.png", 1, compress_level=1)
    assert real.read_bytes() != fake.read_bytes()
    draw("one/1_fake/c.png", 2)
    (survey,) = survey_suites(tmp_path)
    assert survey.in_both_classes == ((real, fake),)
    assert not survey.is_fine


def test_repeated_pictures_are_counted_and_no_fault(draw, tmp_path):
    for index in range(3):
        draw(f"one/0_real/{index}.png", 1)
    draw("one/1_fake/c.png", 2)
    draw("two/0_real/same_in_another_set.png", 1)
    (survey,) = survey_suites(tmp_path)
    assert [part.repeated for part in survey.sets] == [2, 0]
    assert survey.is_fine


def test_a_picture_cut_short_is_found_by_decoding_it(draw, tmp_path):
    path = draw("one/0_real/a.png", 1)
    draw("one/0_real/b.png", 2)
    draw("one/1_fake/c.png", 3)
    path.write_bytes(path.read_bytes()[:-400])  # its header is whole
    (survey,) = survey_suites(tmp_path)
    (part,) = survey.sets
    assert (part.real, [one.path for one in part.unreadable]) == (1, [path])
    assert not survey.is_fine


def test_what_cannot_be_judged_at_native_size_can_be_at_256(draw, tmp_path):
    draw("0_real/a.png", 1)
    draw("1_fake/b.png", 2)
    Image.new("RGB", (51, 48)).save(tmp_path / "0_real" / "odd.png")
    assert survey_suites(tmp_path)[0].is_fine
    (survey,) = survey_suites(tmp_path, size="native")
    assert [one.path.name for one in survey.sets[0].unreadable] == ["odd.png"]


def test_what_is_missing_of_published_suites(draw, tmp_path):
    spec = describe_suites()[4]
    for name in spec.sets[1:]:
        draw(f"{spec.name}/{name}/0_real/a.png", 1)
    for seed, name in enumerate(spec.sets[2:]):
        draw(f"{spec.name}/{name}/1_fake/a.png", 2 + seed)
    (survey,) = survey_suites("diffusion1kstep", tmp_path)
    assert [part.missing for part in survey.sets] == ["no such folder", "no picture in 1_fake", None, None, None]
    assert not survey.is_fine
    progress = []
    assert len(survey_suites("all", tmp_path, on_progress=lambda *step: progress.append(step))) == 5
    assert progress[-1] == ("reading Diffusion1kStep", 7, 7)
