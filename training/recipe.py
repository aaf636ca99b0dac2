"""Recipes: everything that decides which weights a training gives, as a TOML file; unknown keys are errors.

The recipes of the paper and of its tables lie in ``training/recipes``. A recipe may name another one as its ``base``
and say only what differs.
"""

import tomllib
from dataclasses import asdict, dataclass, field, fields
from importlib import resources
from pathlib import Path
from typing import Any, Self

from lfm_deploy.config import ModelConfig, Pooling
from lfm_deploy.errors import ConfigError, DeployError, nearest
from training.augmentation import Augmentation
from training.regularizers import drop_probabilities

FOLDERS, DEMONSTRATION = "folders", "demonstration"
_CHOICES = {
    "data": (FOLDERS, DEMONSTRATION),
    "schedule": ("steps", "linear"),
    "precision": ("float32", "bf16", "fp16"),
}
_LEAST = {"epochs": 1, "batch": 2, "decay_epochs": 1, "resize": 2, "tiles": 1, "seed": 0}


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRecipe:
    """How to train; the defaults are the paper's protocol.

    Attributes:
        name: name of the recipe.
        description: description in a line.
        model: keys of ``ModelConfig`` that differ from the published network.
        data: ``"folders"`` (ForenSynths layout, --data) or ``"demonstration"`` (tiles that the program makes itself).
        classes: categories to learn from; empty is all.
        resize: side in pixels to which pictures are resized with Pillow's bilinear filter.
        tiles: number of tiles of each photograph, for the demonstration, whose tiles have the side ``crop``.
        crop, flip, blur, blur_sigma, jpeg, jpeg_quality: values of ``Augmentation``.
        epochs: passes; in each, both classes are drawn equally often.
        batch: pictures in a step, over all processes together.
        learning_rate: learning rate of Adam with betas 0.9 and 0.999.
        schedule: ``"steps"`` multiplies the rate by ``decay`` every ``decay_epochs``; ``"linear"`` falls to zero.
        decay, decay_epochs: factor and number of epochs of the schedule ``"steps"``.
        rbld: whether rank-based linear dropout acts.
        rbld_p: probabilities of rank-based linear dropout for the smallest and the largest value.
        rbld_rescale: whether rank-based linear dropout rescales the values that stay.
        rks_weight: weight of the loss on randomly sampled positions; 0 switches it off.
        precision: ``"float32"``, or autocast to ``"bf16"`` or ``"fp16"``.
        channels_last: memory format of pictures and weights.
        compile: whether ``torch.compile`` is used.
        seed: seed of weights, order, augmentation and regularisers.
    """

    name: str
    description: str = ""
    model: dict[str, Any] = field(default_factory=dict)
    data: str = FOLDERS
    classes: tuple[str, ...] = ()
    resize: int = 256
    tiles: int = 24
    crop: int = 224
    flip: float = 0.5
    blur: float = 0.0
    blur_sigma: tuple[float, float] = (0.0, 3.0)
    jpeg: float = 0.0
    jpeg_quality: tuple[int, int] = (30, 100)
    epochs: int = 50
    batch: int = 32
    learning_rate: float = 1e-4
    schedule: str = "steps"
    decay: float = 0.9
    decay_epochs: int = 10
    rbld: bool = True
    rbld_p: tuple[float, float] = (0.1, 0.3)
    rbld_rescale: bool = True
    rks_weight: float = 0.1
    precision: str = "float32"
    channels_last: bool = False
    compile: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be trained.

        Raises:
            ConfigError: a value is out of range, or values contradict each other.
        """
        for name, least in _LEAST.items():
            if getattr(self, name) < least:
                raise ConfigError(f"{name} is {getattr(self, name)}, expected {least} or more")
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise ConfigError(f"{name} is {getattr(self, name)!r}, expected one of {', '.join(choices)}")
        if not (self.learning_rate > 0 and 0 < self.decay <= 1 and self.rks_weight >= 0):
            raise ConfigError(
                f"need learning_rate > 0, 0 < decay <= 1 and rks_weight >= 0, got {self.learning_rate}, "
                f"{self.decay}, {self.rks_weight}"
            )
        if self.data == FOLDERS and self.crop > self.resize:
            raise ConfigError(f"a crop of {self.crop} does not fit into pictures of {self.resize}; raise resize")
        drop_probabilities(1, *self.rbld_p)
        self.augmentation()
        self._check_model()

    def _check_model(self) -> None:
        config = self.model_config()
        if config.pooling is not Pooling.TOPK:
            if self.rbld or self.rks_weight:
                raise ConfigError(
                    f"rbld and rks_weight act on Top-K pooling, this model has {str(config.pooling)!r}; "
                    "set rbld = false and rks_weight = 0"
                )
            return
        rows, columns = config.map_size(self.crop, self.crop)
        if rows * columns < config.k:
            raise ConfigError(
                f"k is {config.k}, more than the {rows * columns} positions of the {rows}x{columns} map of a "
                f"{self.crop}x{self.crop} crop; choose a smaller k or a larger crop"
            )

    def model_config(self) -> ModelConfig:
        """The architecture.

        Raises:
            ConfigError: a key is unknown, or a value is of the wrong type or out of range.
        """
        default = ModelConfig().as_dict()
        for key, value in self.model.items():
            if key not in default:
                raise ConfigError(f"[model] has the unknown key {key!r}; known are {', '.join(sorted(default))}")
            expected: Any = [0] if isinstance(default[key], list) else default[key]
            _require_type(f"[model] {key}", value, expected)
        return ModelConfig.from_dict(default | self.model)

    def augmentation(self) -> Augmentation:
        """What is done to training pictures."""
        return Augmentation(**{key.name: getattr(self, key.name) for key in fields(Augmentation)})

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for a checkpoint."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def from_values(cls, name: str, values: dict[str, Any]) -> Self:
        """A recipe from plain values.

        Raises:
            ConfigError: a key is unknown, or a value is of the wrong type or out of range; the message names the
                recipe.
        """
        defaults = {key.name: key for key in fields(cls)}
        checked: dict[str, Any] = {"name": name}
        try:
            for key, value in values.items():
                if key == "name":
                    continue
                if key not in defaults:
                    raise ConfigError(f"unknown key {key!r}; known are {', '.join(sorted(set(defaults) - {'name'}))}")
                checked[key] = _as_field(key, value, {} if key == "model" else defaults[key].default)
            return cls(**checked)
        except DeployError as error:
            raise ConfigError(f"recipe {name}: {error}") from None


def describe_recipes() -> dict[str, str]:
    """The recipes that come with the program, each with its description."""
    return {name: str(_read_values(name, ())["description"]) for name in list_recipes()}


def list_recipes() -> list[str]:
    """Names of the recipes that come with the program."""
    folder = resources.files("training") / "recipes"
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def read_recipe(name: str, changes: dict[str, Any] | None = None) -> TrainingRecipe:
    """A recipe by name, or from a file that ends in ``.toml``.

    Args:
        name: name of a recipe that is built in, or path of a TOML file.
        changes: values that replace those of the recipe, such as options of the command line.

    Raises:
        ConfigError: there is no such recipe, the file is not TOML, or a value is refused by ``from_values``.
    """
    shown = Path(name).stem if name.endswith(".toml") else name
    return TrainingRecipe.from_values(shown, _read_values(name, ()) | (changes or {}))


def _read_values(name: str, readers: tuple[str, ...]) -> dict[str, Any]:
    """The values of a recipe over those of its base."""
    if name in readers:
        raise ConfigError(f"recipe {readers[0]}: its bases go round in a circle: {' -> '.join((*readers, name))}")
    try:
        values = tomllib.loads(_read_text(name))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"recipe {name}: not valid TOML: {error}") from None
    base = values.pop("base", None)
    if base is None:
        return values
    if not isinstance(base, str):
        raise ConfigError(f"recipe {name}: base is {base!r}, expected the name of a recipe")
    below = _read_values(base, (*readers, name)) | {"description": ""}
    if isinstance(values.get("model"), dict) and isinstance(below.get("model"), dict):
        values["model"] = below["model"] | values["model"]
    return below | values


def _read_text(name: str) -> str:
    if name.endswith(".toml"):
        path = Path(name)
        if not path.is_file():
            raise ConfigError(f"{name}: no such recipe file; recipes that come with the program: {_known()}")
        try:
            return path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            raise ConfigError(f"{name}: not text in UTF-8, so not a recipe; recipes are TOML files") from None
    if name not in list_recipes():
        close = nearest(name, list_recipes())
        hint = f" (did you mean {close}?)" if close else ""
        raise ConfigError(f"no recipe {name!r}{hint}; there are {_known()}, or give a file that ends in .toml")
    return (resources.files("training") / "recipes" / f"{name}.toml").read_text(encoding="utf-8")


def _known() -> str:
    return ", ".join(list_recipes())


def _as_field(key: str, value: object, default: object) -> object:
    """The value as the field holds it, after its type was checked against the default's."""
    expected: object = [*default] or [""] if isinstance(default, tuple) else default
    _require_type(key, value, expected)
    if isinstance(default, tuple):
        assert isinstance(value, list | tuple)  # noqa: S101  # what _require_type has seen
        if default and len(value) != len(default):
            raise ConfigError(f"{key} has {len(value)} values, expected {len(default)}")
        return tuple(value)
    return value


def _require_type(key: str, value: object, like: object) -> None:
    """Refuse a value of another type than the example; whole numbers pass where fractions are expected."""
    if isinstance(like, list):
        if not isinstance(value, list | tuple):
            raise ConfigError(f"{key} is {value!r}, expected a list")
        for item in value:
            _require_type(f"an item of {key}", item, like[0])
        return
    kinds: tuple[type, ...] = (int, float) if isinstance(like, float) else (type(like),)
    if isinstance(like, str):
        kinds = (str,)
    if not isinstance(value, kinds) or (isinstance(value, bool) and not isinstance(like, bool)):
        names = {int: "a whole number", float: "a number", bool: "true or false", str: "a text", dict: "a table"}
        raise ConfigError(f"{key} is {value!r}, expected {names.get(kinds[-1], kinds[-1].__name__)}")
