import itertools

import pytest

from lfm_deploy.config import ModelConfig
from lfm_deploy.errors import ConfigError
from training.recipe import TrainingRecipe, describe_recipes, list_recipes, read_recipe

ABLATIONS = {
    "table4_gap", "table4_tkp", "table4_tkp_rbld", "table4_tkp_rbld_rks",
    *(f"table5_depth{depth}" for depth in range(4, 9)), "table5_resnet50_tkp",
    *(f"table6_{pooling}" for pooling in ("gap", "gmp", "attention", "tkp")),
    *(f"table7_k{k}" for k in (1, 4, 16, 64, 256)),
}  # fmt: skip


def write(tmp_path, text):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    return str(path)


def test_every_row_of_the_papers_tables_has_its_recipe():
    assert set(list_recipes()) == ABLATIONS | {"paper", "npr", "demo"}
    assert all(describe_recipes().values())


@pytest.mark.parametrize("name", sorted(ABLATIONS | {"paper", "npr", "demo"}))
def test_recipes_that_come_with_the_program(name):
    recipe = read_recipe(name)
    assert recipe.name == name
    assert TrainingRecipe.from_values(name, recipe.as_dict()) == recipe
    if name != "demo":
        assert (recipe.epochs, recipe.batch, recipe.learning_rate, recipe.crop) == (50, 32, 1e-4, 224)


def test_the_paper_is_the_paper():
    recipe = read_recipe("paper")
    assert recipe.model_config() == ModelConfig()
    assert (recipe.rbld, recipe.rbld_p, recipe.rbld_rescale, recipe.rks_weight) == (True, (0.1, 0.3), True, 0.1)
    assert (recipe.schedule, recipe.decay, recipe.decay_epochs) == ("steps", 0.9, 10)
    assert recipe.classes == ("car", "cat", "chair", "horse")
    assert (recipe.flip, recipe.jpeg, recipe.blur, recipe.resize) == (0.5, 0, 0, 256)


def test_table_4_adds_one_thing_at_a_time():
    rows = [read_recipe(f"table4_{name}") for name in ("tkp", "tkp_rbld", "tkp_rbld_rks")]
    assert [(row.rbld, row.rks_weight) for row in rows] == [(False, 0), (True, 0), (True, 0.1)]


def test_a_recipe_of_ones_own_over_a_base(tmp_path):
    path = write(tmp_path, 'base = "demo"\nepochs = 3\n[model]\nk = 4\n')
    recipe = read_recipe(path, {"seed": 7})
    assert (recipe.name, recipe.epochs, recipe.seed, recipe.crop) == ("mine", 3, 7, 128)
    assert recipe.model_config() == ModelConfig(widths=(16, 32, 64, 128), projection=32, k=4)
    assert recipe.description == "", "the base's description is not that of this recipe"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epoch = 3", "unknown key 'epoch'; known are .*epochs"),
        ("[model]\nwidth = [8]", "unknown key 'width'"),
        ("[model]\nk = 1024", "k is 1024, more than the 676 positions of the 26x26 map of a 224x224 crop"),
        ("crop = 34\n[model]\nk = 16", "more than the 4 positions"),
        ('epochs = "three"', "epochs is 'three', expected a whole number"),
        ("epochs = true", "epochs is True, expected a whole number"),
        ("epochs = 1.5", "epochs is 1.5, expected a whole number"),
        ("rbld = 1", "rbld is 1, expected true or false"),
        ("flip = 'often'", "flip is 'often', expected a number"),
        ("classes = 'car'", "classes is 'car', expected a list"),
        ("classes = [1]", r"classes\[0\] is 1, expected a text"),
        ("rbld_p = [0.1]", r"rbld_p is \[0\.1\], expected a list of length 2"),
        ("rbld_p = [0.3, 0.1]", "p_min <= p_max"),
        ("model = 3", "model is 3, expected a table"),
        ("[model]\nk = 'many'", "k is 'many', expected a whole number"),
        ("[model]\nwidths = '64'", "widths is '64', expected a list"),
        ("epochs = 0", "epochs is 0, expected a whole number >= 1"),
        ("batch = 1", "batch is 1, expected a whole number >= 2"),
        ("learning_rate = 0.0", "learning_rate is 0.0, expected a number > 0"),
        ("schedule = 'cosine'", "schedule is 'cosine', expected linear or steps"),
        ("precision = 'int8'", "precision is 'int8'"),
        ("data = 'imagenet'", "data is 'imagenet'"),
        ("crop = 300", "a crop of 300 does not fit into pictures of 256"),
        ("crop = 225", "crop is 225, expected an even number"),
        ("base = 'papers'", r"no recipe 'papers' \(did you mean 'paper'\?\); there are demo"),
        ("base = 1", "base is 1, expected the name"),
        ("epochs =", "not TOML"),
        ("flip = nan", "flip is nan, expected a finite number"),
        ("learning_rate = inf", "learning_rate is inf, expected a finite number"),
        ("seed = -1", "seed is -1, expected a whole number >= 0"),
        (f"seed = 0x{'f' * 5000}", "seed is an integer of more than 64 bits"),
        ("crop = 1099511627776", "crop is 1099511627776, expected a whole number <= 32768"),
        ("[model]\nwidths = [1099511627776]", r"widths\[0\] is 1099511627776"),
        (f"x = {'[' * 50_000}", "line 1 nests deeper than 32 levels"),
        (".".join("x" * 20_000) + " = 1", "line 1 has a key of more than 16 parts"),
    ],
    ids=itertools.count(),
)
def test_bad_recipes_are_told_in_one_line(tmp_path, text, message):
    with pytest.raises(ConfigError, match=message) as caught:
        read_recipe(write(tmp_path, text))
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_recipes_as_editors_save_them(tmp_path, encoding):
    (tmp_path / "mine.toml").write_text('base = "demo"\ndescription = "é"\n', encoding=encoding)
    assert read_recipe(str(tmp_path / "mine.toml")).description == "é"


def test_bases_that_go_round_in_a_circle(tmp_path):
    path = write(tmp_path, f'base = "{tmp_path}/mine.toml"')
    with pytest.raises(ConfigError, match="round in a circle"):
        read_recipe(path)


def test_a_file_that_is_no_recipe(tmp_path):
    with pytest.raises(ConfigError, match="no such recipe file"):
        read_recipe(str(tmp_path / "none.toml"))
    (tmp_path / "picture.toml").write_bytes(b"\x89PNG\xff\xfe")
    with pytest.raises(ConfigError, match="not text in UTF-8"):
        read_recipe(str(tmp_path / "picture.toml"))


@pytest.mark.skipif("pooling" not in ModelConfig().as_dict(), reason="ModelConfig has no pooling")
def test_regularisers_of_top_k_pooling_are_refused_with_another_one(tmp_path):
    with pytest.raises(ConfigError, match="act on Top-K pooling, this model has 'average'"):
        read_recipe(write(tmp_path, "[model]\npooling = 'average'"))
