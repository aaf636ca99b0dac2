import pytest

from engines.batch_parts import PART_PIXELS, choose_part, limit_batch, split_exactly, split_into_powers
from engines.engine import BatchSlice


def test_a_batch_is_split_into_full_runs_and_a_rest_of_the_next_power_of_two():
    assert split_into_powers(13, 4) == [
        BatchSlice(0, 4, 4),
        BatchSlice(4, 4, 4),
        BatchSlice(8, 4, 4),
        BatchSlice(12, 1, 1),
    ]
    assert split_into_powers(3, 64) == [BatchSlice(0, 3, 4)]
    assert split_into_powers(64, 64) == [BatchSlice(0, 64, 64)]


@pytest.mark.parametrize(
    ("size", "expected"), [((256, 256), 64), ((48, 48), 64), ((512, 512), 16), ((300, 256), 32), ((4096, 4096), 1)]
)
def test_fewer_large_pictures_run_at_once(size, expected):
    assert limit_batch(64, size) == expected


@pytest.mark.parametrize(("pictures", "expected"), [(1, 32), (128, 32), (129, 64), (256, 64), (300, 128), (9999, 128)])
def test_a_batch_from_host_memory_runs_in_four_parts_but_not_in_small_ones(pictures, expected):
    assert choose_part(pictures, (256, 256)) == expected


@pytest.mark.parametrize("size", [(48, 48), (256, 256), (300, 280), (1024, 1024), (1026, 1030)])
def test_a_part_has_no_more_pixels_than_the_memory_plan_counts(size):
    assert choose_part(9999, size) * size[0] * size[1] <= PART_PIXELS
    assert choose_part(9999, (10_000, 10_000)) == 1


@pytest.mark.parametrize("pictures", [1, 2, 13, 64, 65, 200])
def test_pictures_that_are_read_where_they_lie_are_split_without_filling(pictures):
    parts = split_exactly(pictures, 32)
    assert all(part.count == part.run_as and part.count & (part.count - 1) == 0 for part in parts)
    covered = [index for part in parts for index in range(part.start, part.start + part.count)]
    assert covered == list(range(pictures))
    assert max(part.count for part in parts) == min(32, 1 << (pictures.bit_length() - 1))
    assert len(parts) <= pictures // 32 + 5
