import pytest

from engines.kernels.layout import Layout, power_of_two_in


@pytest.mark.parametrize(
    ("width", "pitch", "across"), [(128, 128, 1), (127, 128, 1), (65, 128, 1), (64, 64, 2), (31, 32, 4), (2, 2, 64)]
)
def test_pictures_lie_side_by_side_without_touching(width, pitch, across):
    layout = Layout.in_strips(5, 7, width, 16)
    assert (layout.pitch, layout.across) == (pitch, across)
    assert layout.shape == (-(-5 // across), 7, 128, 16)


def test_a_plain_layout_is_the_maps_themselves():
    assert Layout.plain(5, 7, 9, 16).shape == (5, 7, 9, 16)


@pytest.mark.parametrize(("number", "largest", "expected"), [(48, 64, 16), (64, 128, 64), (512, 128, 128), (1, 8, 1)])
def test_powers_of_two(number, largest, expected):
    assert power_of_two_in(number, largest) == expected
