"""A list of shards and pictures of all kinds, for the tests of what is judged in parts."""

import shutil
import tarfile
import zipfile
from pathlib import Path

from lfm_deploy.pictures.images import find_images

SHARDS = ("one.tar", "two.zip", "three.tar.gz", "bad.tar", "no such.zip")


def make_list(pictures: Path, folder: Path) -> Path:
    """Write shards, a folder and a list of them; returns the list, whose names are relative to the folder.

    ``bad.tar`` is cut short behind its first picture, and ``no such.zip`` is not there.
    """
    paths = find_images(pictures)[:16]
    photos = folder / "photos"
    photos.mkdir()
    for index, path in enumerate(paths[:5]):
        shutil.copy(path, photos / f"{index}.png")
    (photos / "2x.png").write_bytes(b"broken")
    for name, some in (("one.tar", paths[5:8]), ("three.tar.gz", paths[8:12]), ("bad.tar", paths[12:14])):
        with tarfile.open(folder / name, "w:gz" if name.endswith(".gz") else "w") as file:
            for path in some:
                file.add(path, path.name)
    with zipfile.ZipFile(folder / "two.zip", "w") as archive:
        for path in paths[14:16]:
            archive.write(path, path.name)
        archive.writestr("notes.txt", "no picture")
    whole = (folder / "bad.tar").read_bytes()
    with tarfile.open(folder / "bad.tar") as file:
        first = file.getmembers()[1].offset
    (folder / "bad.tar").write_bytes(whole[: first + 700])
    lines = folder / "list.txt"
    lines.write_text("\n".join([*SHARDS[:2], "photos", *SHARDS[2:]]) + "\n")
    return lines
