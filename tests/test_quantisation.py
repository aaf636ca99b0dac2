import pytest

from lfm_deploy.errors import ConfigError
from lfm_deploy.quantisation import Budget, Quantisation, Recipe
from lfm_deploy.storage.values import Reader


def test_a_budget_reads_what_it_writes():
    budget = Budget(acc=0.5, ap=0, flips=1.25)
    assert str(budget) == "acc=0.5,ap=0,flips=1.25%"
    assert Budget.parse(str(budget)) == budget


def test_what_a_budget_does_not_name_keeps_its_default():
    assert Budget.parse("acc=1") == Budget(acc=1, ap=0.15, flips=0.7)
    assert Budget.parse(" flips = 2 % , ap=3") == Budget(acc=0.2, ap=3, flips=2)


@pytest.mark.parametrize("text", ["", "acc", "acc=", "acc=-1", "acc=1,acc=2", "loss=1", "acc=1;ap=2", "acc=nan"])
def test_other_budgets_are_refused_with_an_example(text):
    with pytest.raises(ConfigError, match=r"such as acc=0\.2,ap=0\.15,flips=0\.7%"):
        Budget.parse(text)


def test_a_negative_budget_is_refused():
    with pytest.raises(ConfigError, match="negative"):
        Budget(flips=-0.1)


def test_a_quantisation_reads_what_it_writes_and_nothing_else():
    made = Quantisation(
        recipe=Recipe.CPU,
        layers={"conv1": "int8", "conv2": "fp32"},
        int8_share=0.5,
        ranges_sha256="0" * 64,
        budget=Budget(),
        layers_asked="search",
        within_budget=True,
    )
    reader = Reader(where="x", remedy="", error=ConfigError)
    assert reader.convert(made.as_dict(), Quantisation) == made
    with pytest.raises(ConfigError, match="unknown key 'colour'"):
        reader.convert(made.as_dict() | {"colour": "red"}, Quantisation)


def test_recipes_know_their_base_and_their_levels():
    # Symmetric int8 spends its codes below 0 on nothing behind a ReLU; uint8 has all 255 steps above 0.
    assert (Recipe.TENSORRT.base, Recipe.TENSORRT.levels) == ("fp16", 127)
    assert (Recipe.CPU.base, Recipe.CPU.levels) == ("fp32", 255)
