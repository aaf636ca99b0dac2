"""Test data: a suite holds test sets, a test set holds pictures with their labels."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from lfm_deploy.contract import SizePolicy
from lfm_deploy.errors import SuiteError
from lfm_deploy.images import find_images

CLASS_FOLDERS = ("0_real", "1_fake")
DATA_VARIABLE = "LFM_DATA"


@dataclass(frozen=True, slots=True)
class LabelledImage:
    """A picture file and its label: 0 is real, 1 is fake."""

    path: Path
    label: int


@dataclass(frozen=True, slots=True)
class TestSet:
    """Pictures of one generator, with real ones to tell them from."""

    __test__ = False  # its name makes pytest think that it holds tests

    name: str
    images: tuple[LabelledImage, ...]

    @property
    def has_both_classes(self) -> bool:
        """Whether average precision is defined for it."""
        return len({image.label for image in self.images}) == len(CLASS_FOLDERS)


@dataclass(frozen=True, slots=True)
class Suite:
    """Test sets that are judged under one size policy."""

    name: str
    size: SizePolicy
    sets: tuple[TestSet, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteSpec:
    """A published suite.

    Attributes:
        name: also the name of its folder.
        size: pictures are resized to this, or judged as they are; the authors' protocol.
        sets: official folder names of its test sets, in the paper's order.
        source: who published the data, and where.
    """

    name: str
    size: SizePolicy
    sets: tuple[str, ...]
    source: str

    @property
    def folder(self) -> str:
        """Name of its folder below the data folder."""
        return self.name


_SPECS = (
    SuiteSpec(
        name="ForenSynths",
        size=256,
        sets=("progan", "stylegan", "stylegan2", "biggan", "cyclegan", "stargan", "gaugan", "deepfake"),
        source="CNNDetection's test set (Wang et al., CVPR 2020), GitHub PeterWang512/CNNDetection",
    ),
    SuiteSpec(
        name="GANGen-Detection",
        size="native",
        sets=("AttGAN", "BEGAN", "CramerGAN", "InfoMaxGAN", "MMDGAN", "RelGAN", "S3GAN", "SNGAN", "STGAN"),
        source="GANGen-Detection (Tan et al.), GitHub chuangchuangtan/GANGen-Detection",
    ),
    SuiteSpec(
        name="DiffusionForensics",
        size=256,
        sets=("adm", "ddpm", "iddpm", "ldm", "pndm", "vqdiffusion", "sdv1_new", "sdv2"),
        source="DIRE's data (Wang et al., ICCV 2023), GitHub ZhendongWang6/DIRE",
    ),
    SuiteSpec(
        name="UniversalFakeDetect",
        size=256,
        sets=(
            "dalle",
            "glide_100_10",
            "glide_100_27",
            "glide_50_27",
            "guided",
            "ldm_100",
            "ldm_200",
            "ldm_200_cfg",
        ),
        source="diffusion sets of Ojha et al. (CVPR 2023), GitHub WisconsinAIVision/UniversalFakeDetect",
    ),
    SuiteSpec(
        name="Diffusion1kStep",
        size=256,
        sets=("DALLE", "ddpm", "guided-diffusion", "improved-diffusion", "midjourney"),
        source="collected for NPR (Tan et al., CVPR 2024), GitHub chuangchuangtan/NPR-DeepfakeDetection, "
        "which links all five suites",
    ),
)
GROUPS = {
    "gan": ("ForenSynths", "GANGen-Detection"),
    "diffusion": ("DiffusionForensics", "UniversalFakeDetect", "Diffusion1kStep"),
    "all": tuple(spec.name for spec in _SPECS),
}


def describe_suites() -> tuple[SuiteSpec, ...]:
    """The five published suites, 38 test sets, in the paper's order."""
    return _SPECS


def load_suites(name: str | Path, data: Path | str | None = None, *, size: SizePolicy = 256) -> list[Suite]:
    """A published suite, a group of them, or a folder of one's own.

    Args:
        name: a suite or group, in any case, or the path of a folder that holds ``0_real`` and ``1_fake``, or whose
            subfolders do, each a test set; categories may stand between a test set and its classes.
        data: where the published suites lie, as ``<suite>/<test set>/[category/]{0_real,1_fake}/``; None takes the
            environment variable LFM_DATA, else ``data`` in the current folder.
        size: size policy of a folder of one's own; published suites have their own.

    Raises:
        SuiteError: the name is unknown, data is missing (the message shows the expected tree), a class is missing
            where average precision needs it, or there is no picture.
    """
    specs = _find_specs(str(name))
    if specs:
        root = Path(data or os.environ.get(DATA_VARIABLE) or "data")
        return [_load_published(spec, root) for spec in specs]
    folder = Path(name)
    if not folder.is_dir():
        known = ", ".join([spec.name for spec in _SPECS] + list(GROUPS))
        raise SuiteError(f"{name}: neither a folder nor a suite; suites and groups are {known}")
    return [_load_folder(folder, size)]


def expected_tree(spec: SuiteSpec, data: Path) -> str:
    """How a published suite must lie on the disk, as a picture of folders."""
    lines = [f"{data / spec.folder}/"]
    for index, name in enumerate(spec.sets):
        last = index == len(spec.sets) - 1
        lines.append(f"{'└' if last else '├'}── {name}/[category/]{{0_real,1_fake}}/*.png")
    return "\n".join(lines)


def _find_specs(name: str) -> list[SuiteSpec]:
    members = {group: names for group, names in GROUPS.items() if group == name.lower()}
    wanted = next(iter(members.values()), (name,))
    return [spec for spec in _SPECS if spec.name.lower() in {member.lower() for member in wanted}]


def _load_published(spec: SuiteSpec, data: Path) -> Suite:
    root = data / spec.folder
    missing = [name for name in spec.sets if not (root / name).is_dir()]
    if missing:
        raise SuiteError(
            f"{root}: missing {', '.join(missing)}; get the data from {spec.source}, and give --data the folder above "
            f"{spec.folder}, like this:\n{expected_tree(spec, data)}"
        )
    sets = tuple(_load_set(root / name, name) for name in spec.sets)
    for part in sets:
        _require_both_classes(part, root / part.name)
    return Suite(spec.name, spec.size, sets)


def _load_folder(folder: Path, size: SizePolicy) -> Suite:
    name = folder.resolve().name
    if _class_folders(folder):
        part = _load_set(folder, name)
        _require_both_classes(part, folder)
        return Suite(name, size, (part,))
    children = [child for child in _subfolders(folder) if _holds_classes(child)]
    if not children:
        raise SuiteError(
            f"{folder}: no 0_real/ and 1_fake/ in it or in its subfolders; put real pictures into <test set>/0_real/ "
            "and fake ones into <test set>/1_fake/"
        )
    sets = tuple(part for child in children if (part := _load_set(child, child.name)).images)
    if not any(part.has_both_classes for part in sets):
        classes = {image.label for part in sets for image in part.images}
        if not classes:
            raise SuiteError(
                f"{folder}: no picture in any test set; known kinds are those that Pillow reads, like .png"
            )
        raise SuiteError(
            f"{folder}: no test set has pictures of both classes, so average precision is undefined; each needs "
            "0_real/ and 1_fake/"
        )
    return Suite(name, size, sets)


def _load_set(folder: Path, name: str) -> TestSet:
    """The pictures of a test set: in its class folders, or in those of its categories."""
    homes = [folder] if _class_folders(folder) else _subfolders(folder)
    images = [
        LabelledImage(path, label)
        for label, class_folder in enumerate(CLASS_FOLDERS)
        for home in homes
        for path in find_images(home / class_folder)
    ]
    return TestSet(name, tuple(images))


def _require_both_classes(part: TestSet, folder: Path) -> None:
    if part.has_both_classes:
        return
    if not part.images:
        raise SuiteError(f"{folder}: no picture in 0_real/ and 1_fake/; put .png or .jpg files there")
    present, absent = (CLASS_FOLDERS[label] for label in (part.images[0].label, 1 - part.images[0].label))
    raise SuiteError(
        f"{folder}: pictures in {present}/ but none in {absent}/, so average precision is undefined; add {absent}/"
    )


def _class_folders(folder: Path) -> list[Path]:
    return [folder / name for name in CLASS_FOLDERS if (folder / name).is_dir()]


def _holds_classes(folder: Path) -> bool:
    return bool(_class_folders(folder)) or any(_class_folders(child) for child in _subfolders(folder))


def _subfolders(folder: Path) -> Iterable[Path]:
    return sorted(child for child in folder.iterdir() if child.is_dir() and not child.name.startswith("."))
