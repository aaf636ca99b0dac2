import pytest
import torch

from lfm_deploy.config import Residual
from lfm_deploy.network.residuals import build_residual, neighbouring_pixel_relationships, pixel_differences

BLOCKS = torch.tensor([[[[5.0, 7.0, 1.0, 1.0], [2.0, 5.0, 1.0, 9.0]]]])


def test_npr_by_hand():
    assert pixel_differences(BLOCKS).tolist() == [[[[0, 2, 0, 0], [-3, 0, 0, 8]]]]
    assert neighbouring_pixel_relationships(BLOCKS).tolist() == [[[[0, 2, 0, 0], [3, 0, 0, 8]]]]


@pytest.mark.parametrize(
    ("residual", "expected"),
    [(Residual.ABSOLUTE, [[0, 2, 0, 0], [3, 0, 0, 8]]), (Residual.SIGNED, [[0, 4 / 3, 0, 0], [-2, 0, 0, 16 / 3]])],
)
def test_what_the_backbones_see(residual, expected):
    # One rounding of float32 each in the factor and the product.
    torch.testing.assert_close(
        build_residual(residual)(BLOCKS), torch.tensor([[expected]], dtype=torch.float32), rtol=2e-7, atol=0
    )
