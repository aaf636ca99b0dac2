"""Recipes: everything that decides which weights a training gives, as a TOML file; unknown keys are errors.

The recipes of the paper and of its tables lie in ``training/recipes``. A recipe may name another one as its ``base``
and say only what differs.
"""

from dataclasses import asdict, dataclass, field, fields
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from msgspec import Meta

from lfm_deploy.config import ModelConfig, Pooling
from lfm_deploy.contract import LARGEST_SIDE
from lfm_deploy.errors import ConfigError, nearest
from lfm_deploy.storage.values import MOST_TOML_BYTES, Count, NotNegative, Reader
from training.augmentation import Augmentation
from training.regularizers import drop_probabilities

FOLDERS: Final = "folders"
DEMONSTRATION: Final = "demonstration"
# Bounds that only damage or a slip of the pen leaves.
_MOST_EPOCHS, _MOST_BATCH, _MOST_TILES = 1_000_000, 1 << 20, 1 << 20
Side = Annotated[int, Meta(ge=2, le=LARGEST_SIDE)]


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
    data: Literal["folders", "demonstration"] = FOLDERS
    classes: tuple[str, ...] = ()
    resize: Side = 256
    tiles: Annotated[int, Meta(ge=1, le=_MOST_TILES)] = 24
    crop: Side = 224
    flip: float = 0.5
    blur: float = 0.0
    blur_sigma: tuple[float, float] = (0.0, 3.0)
    jpeg: float = 0.0
    jpeg_quality: tuple[int, int] = (30, 100)
    epochs: Annotated[int, Meta(ge=1, le=_MOST_EPOCHS)] = 50
    batch: Annotated[int, Meta(ge=2, le=_MOST_BATCH)] = 32
    learning_rate: Annotated[float, Meta(gt=0)] = 1e-4
    schedule: Literal["steps", "linear"] = "steps"
    decay: Annotated[float, Meta(gt=0, le=1)] = 0.9
    decay_epochs: Annotated[int, Meta(ge=1, le=_MOST_EPOCHS)] = 10
    rbld: bool = True
    rbld_p: tuple[float, float] = (0.1, 0.3)
    rbld_rescale: bool = True
    rks_weight: NotNegative = 0.1
    precision: Literal["float32", "bf16", "fp16"] = "float32"
    channels_last: bool = False
    compile: bool = False
    seed: Count = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be trained.

        Raises:
            ConfigError: a value is out of range, or values contradict each other.
        """
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
        reader = Reader(where="[model]", remedy="", error=ConfigError)
        default = ModelConfig().as_dict()
        if unknown := sorted(set(self.model) - set(default)):
            raise ConfigError(f"[model] has the unknown key {unknown[0]!r}; known are {', '.join(sorted(default))}")
        # ResNet-50 keeps two of the widths.
        return reader.convert(default | self.model, ModelConfig, others=True)

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
        reader = Reader(where=f"recipe {name}", remedy="mend the recipe, or the option", error=ConfigError)
        return reader.convert(values | {"name": name}, cls, defaults=True)


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
    reader = Reader(where=f"recipe {name}", remedy="recipes are TOML files in UTF-8", error=ConfigError)
    values = reader.parse_toml(_read_text(name, reader))
    base = values.pop("base", None)
    if base is None:
        return values
    if not isinstance(base, str):
        raise ConfigError(f"recipe {name}: base is {base!r}, expected the name of a recipe")
    below = _read_values(base, (*readers, name)) | {"description": ""}
    if isinstance(values.get("model"), dict) and isinstance(below.get("model"), dict):
        values["model"] = below["model"] | values["model"]
    return below | values


def _read_text(name: str, reader: Reader) -> str:
    if name.endswith(".toml"):
        path = Path(name)
        if not path.is_file():
            raise ConfigError(f"{name}: no such recipe file; recipes that come with the program: {_known()}")
        return reader.read_text(path, MOST_TOML_BYTES)
    if name not in list_recipes():
        close = nearest(name, list_recipes())
        hint = f" (did you mean {close}?)" if close else ""
        raise ConfigError(f"no recipe {name!r}{hint}; there are {_known()}, or give a file that ends in .toml")
    return (resources.files("training") / "recipes" / f"{name}.toml").read_text(encoding="utf-8")


def _known() -> str:
    return ", ".join(list_recipes())
