"""The published suites: official names, size policies, and where the data comes from."""

from dataclasses import dataclass
from pathlib import Path

from lfm_deploy.contract import SizePolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteSpec:
    """A published suite.

    Attributes:
        name: name of the suite and of its folder.
        size: pictures are resized to this, or judged as they are; the authors' protocol.
        sets: official folder names of its test sets, in the paper's order.
        source: people who published the data, and where.
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


def find_specs(name: str) -> list[SuiteSpec]:
    """The published suites of a name or group, in any case; none where it is neither."""
    members = {group: names for group, names in GROUPS.items() if group == name.lower()}
    wanted = next(iter(members.values()), (name,))
    return [spec for spec in _SPECS if spec.name.lower() in {member.lower() for member in wanted}]


def expected_tree(spec: SuiteSpec, data: Path) -> str:
    """How a published suite must lie on the disk, as a picture of folders."""
    lines = [f"{data / spec.folder}/"]
    for index, name in enumerate(spec.sets):
        last = index == len(spec.sets) - 1
        lines.append(f"{'└' if last else '├'}── {name}/[category/]{{0_real,1_fake}}/*.png")
    return "\n".join(lines)
