"""How the files of suites are stored: notes on each picture, and properties by which the classes differ."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lfm_deploy.prediction.notes import OUTSIDE, describe_facts
from lfm_deploy.prediction.proved_range import ProvedRange, read_proved_range
from lfm_deploy.progress import Progress, ignore_progress
from lfm_deploy.storage.atomic import sha256_of_file
from lfm_deploy.suites import Suite
from lfm_deploy.suites.confounders import Confounder, find_confounders, read_all_facts
from lfm_deploy.verification.envelope_figures import Envelope
from lfm_deploy.workdir import Workdir


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteStorage:
    """How the files of one suite are stored.

    Attributes:
        confounders: properties of files by which the classes differ.
        notes: notes on each picture that has some, by its path.
        outside: number of pictures that are outside of what the detector was proved on; None where nobody measured it.
    """

    confounders: tuple[Confounder, ...]
    notes: Mapping[Path, tuple[str, ...]]
    outside: int | None


def describe_storage(
    suites: Sequence[Suite], proved: ProvedRange | None, on_progress: Progress = ignore_progress
) -> dict[str, SuiteStorage]:
    """Read the heads of all files of suites, and say how they are stored; by the name of the suite.

    Args:
        suites: suites whose files they are.
        proved: range that the detector was proved on; None where nobody measured it.
        on_progress: callback that gets what is done, the number of files, and their total.
    """
    found = {}
    for suite in suites:
        facts = read_all_facts([image.path for part in suite.sets for image in part.images], on_progress)
        notes = {path: said for path, one in facts.items() if (said := describe_facts(one, suite.size, proved))}
        outside = sum(any(note.startswith(OUTSIDE) for note in said) for said in notes.values())
        found[suite.name] = SuiteStorage(
            confounders=find_confounders(suite.name, suite.sets, facts),
            notes=notes,
            outside=None if proved is None else outside,
        )
    return found


def find_proved_range(workdir: Workdir, envelope: Envelope | None) -> ProvedRange | None:
    """What an envelope says of pictures: the one that was measured now, else that of the workdir.

    Args:
        workdir: workdir of the checkpoint.
        envelope: envelope that was measured now; None where it was not.

    Raises:
        ArtifactError: ``envelope.json`` of the workdir is damaged.
    """
    sha256 = sha256_of_file(workdir.checkpoint)
    if envelope is not None:
        return ProvedRange.from_conditions(sha256, envelope.as_dict()["conditions"])
    proved = read_proved_range(workdir.envelope)
    return None if proved is None or proved.checkpoint_sha256 != sha256 else proved
