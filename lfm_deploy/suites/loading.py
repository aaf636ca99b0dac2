"""From a name, a folder or a list to suites."""

import os
from pathlib import Path

from lfm_deploy.contract import SizePolicy
from lfm_deploy.errors import SuiteError, nearest
from lfm_deploy.suites.catalogue import GROUPS, describe_suites, find_specs
from lfm_deploy.suites.folders import load_folder, load_published
from lfm_deploy.suites.labelled import Suite
from lfm_deploy.suites.lists import LIST_SUFFIX, load_list

DATA_VARIABLE = "LFM_DATA"
OWN_SIZE = 256


def load_suites(
    name: str | Path,
    data: Path | str | None = None,
    *,
    size: SizePolicy | None = None,
    both_classes: bool = True,
) -> list[Suite]:
    """A published suite, a group of them, or a folder or list of one's own.

    Args:
        name: name of a suite or group, in upper or lower case; or the path of a folder that holds ``0_real`` and
            ``1_fake``, or whose subfolders do, each a test set; categories may stand between a test set and its
            classes; or the path of a list, a ``.csv`` file with the header ``path,label[,set[,category]]``.
        data: folder of the published suites, which lie there as ``<suite>/<test set>/[category/]{0_real,1_fake}/``;
            None takes the environment variable LFM_DATA, else ``data`` in the current folder.
        size: size policy of a folder or list of one's own, 256 if None; published suites have their own.
        both_classes: whether a folder or list of one's own needs a test set with pictures of both classes.

    Raises:
        SuiteError: the name is unknown, data is missing (the message shows the expected tree), a class is missing
            where average precision needs it, there is no picture, a list has a bad line, or a size was given for a
            published suite.
    """
    specs = find_specs(str(name))
    if specs:
        if size is not None:
            raise SuiteError(
                f"{name}: a published suite has the size policy of the authors' protocol ({specs[0].name}: "
                f"{specs[0].size}); leave --size out, it is for folders and lists of your own"
            )
        return [load_published(spec, data_folder(data)) for spec in specs]
    path = Path(name)
    if path.is_dir():
        return [load_folder(path, size or OWN_SIZE, both_classes=both_classes)]
    if path.suffix.lower() == LIST_SUFFIX:
        return [load_list(path, size or OWN_SIZE, both_classes=both_classes)]
    known = [spec.name for spec in describe_suites()] + list(GROUPS)
    close = nearest(str(name), known)
    hint = f" (did you mean {close}?)" if close else ""
    raise SuiteError(
        f"{name}: neither a folder nor a suite nor a list (.csv){hint}; suites and groups are {', '.join(known)}"
    )


def data_folder(data: Path | str | None) -> Path:
    """Where the published suites lie: the given folder, else that of LFM_DATA, else ``data``."""
    return Path(data or os.environ.get(DATA_VARIABLE) or "data")
