import pytest
import torch
from torch import nn

from export.folding import fold_backbone
from lfm_deploy.config import Backbone, ModelConfig
from lfm_deploy.network.model import LFM


@pytest.fixture(params=list(Backbone))
def backbone(request):
    torch.manual_seed(0)
    model = LFM(ModelConfig(backbone=request.param, widths=(4, 6), projection=2, k=1)).double().eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values in (module.weight, module.running_var):
                nn.init.uniform_(values, 0.5, 1.5)
            for values in (module.bias, module.running_mean):
                nn.init.normal_(values)
    return model.backbone


def test_folds_are_exact_also_at_the_border(backbone):
    """In float64, against batch norms and scaled pixels as they are; a border of zeros must stay one of zeros."""
    gains, residuals = torch.tensor([0.1, 2.0, -3.0], dtype=torch.float64), torch.randn(2, 3, 22, 26).double()
    folded = fold_backbone(backbone, gains, torch.float64)
    with torch.inference_mode():
        expected = backbone(residuals * gains.view(3, 1, 1))
        # Two dozen layers in float64, values of about 1.
        torch.testing.assert_close(folded(residuals), expected, rtol=0, atol=1e-10)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())


def test_a_fold_leaves_the_network_as_it_is(backbone):
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    folded = fold_backbone(backbone, torch.ones(3, dtype=torch.float64), torch.float16)
    assert {parameter.dtype for parameter in folded.parameters()} == {torch.float16}
    assert not any(parameter.requires_grad for parameter in folded.parameters())
    assert all(torch.equal(value, before[name]) for name, value in backbone.state_dict().items())
