"""Image folders: ``DIR/<class>/…`` or ``DIR/<split>/<class>/…``, listed once, opened one by one."""

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import final

import numpy as np
from jaxtyping import Int64
from PIL import Image

from distill.config import DataConfig
from distill.datasets.base import Part, Source
from distill.datasets.errors import DataError, some
from distill.datasets.images import SUFFIXES, open_image
from distill.datasets.paths import existing_folder
from distill.datasets.roles import chosen_roles

SAMPLE = 256  # files, at least, whose bytes go into the digest beside every name and size


@final
@dataclass(frozen=True, eq=False)
class ImageFiles:
    """Image files below a folder; a million names are one buffer, cheap to send to a worker."""

    root: str
    names: bytes
    ends: Int64[np.ndarray, " n"]  # where each name ends in the buffer

    def __len__(self) -> int:
        return len(self.ends)

    def path(self, row: int) -> Path:
        """One file."""
        start = int(self.ends[row - 1]) if row else 0
        return Path(self.root, os.fsdecode(self.names[start : int(self.ends[row])]))

    def read(self, row: int) -> Image.Image:
        """Open one image."""
        path = self.path(row)
        return open_image(path, str(path))

    def where(self, row: int) -> str:
        """Name the file."""
        return str(self.path(row))


def image_files(root: Path, names: Iterable[str]) -> ImageFiles:
    """Pack the names, which are relative to ``root``."""
    packed = [os.fsencode(name) for name in names]
    ends = np.cumsum([len(name) for name in packed], dtype=np.int64)
    return ImageFiles(str(root), b"".join(packed), ends)


def load_folder(place: str, config: DataConfig) -> Source:
    """List the images; the folders' names are the classes, in sorted order.

    Where no labels are wanted, images may lie at any depth.
    """
    root = existing_folder(place, "imagefolder:DIR")
    if config.text_columns or config.image_column or config.label_column:
        raise DataError("an image folder has no columns: its folders' names are the labels")
    homes, ignored = _homes(root, config)
    classes = tuple(folder.name for folder in _folders(homes["train"])) if config.labelled else ()
    if config.labelled and not classes:
        raise DataError(_no_classes(homes["train"]))
    find = partial(_part, classes=classes) if config.labelled else _unlabelled_part
    found = {role: find(home, role) for role, home in homes.items()}
    parts = {role: part for role, (part, _) in found.items()}
    digests = [f"{role} {digest}" for role, (_, digest) in found.items()]
    return Source(
        modality="image",
        classes=classes,
        parts=parts,
        digest=" ".join(["imagefolder", *digests]),
        slow_to_check=True,
        notes=(f"folders of {root} left out: {some(ignored)}",) if ignored else (),
    )


def _homes(root: Path, config: DataConfig) -> tuple[dict[str, Path], list[str]]:
    """Find the folder of each split there is, and the names of the folders that are none."""
    inner = [folder.name for folder in _folders(root)]
    where = f"the folder {root}"
    found = chosen_roles(inner, config, where, must=(), whole=True)
    found = {role: names for role, names in found.items() if names}
    named = {name for names in found.values() for name in names}
    if named != set(inner):  # a class may be called "train": a split's folder holds folders
        found = {role: names for role, names in found.items() if _folders(root / names[0])}
        named = {name for names in found.values() for name in names}
    if not found:
        return {"train": root}, []
    for role, names in found.items():
        if len(names) > 1:
            raise DataError(f"{root} has several {role} folders: {some(names)}; keep one of them")
    if "train" not in found:
        raise DataError(
            f"{root} has {some(sorted(named))} but no folder {config.train_split!r}; "
            "name the training folder with data.train_split"
        )
    homes = {role: root / names[0] for role, names in found.items()}
    return homes, sorted(set(inner) - named)


def _folders(root: Path) -> list[Path]:
    """Folders directly below, sorted; hidden ones and archive debris left out."""
    with os.scandir(root) as entries:
        names = [entry.name for entry in entries if entry.is_dir() and not _hidden(entry.name)]
    return [root / name for name in sorted(names)]


def _hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _no_classes(home: Path) -> str:
    loose = any(path.suffix.lower() in SUFFIXES for path in home.iterdir())
    what = "images but no class folders" if loose else "no class folders"
    return f"{home} holds {what}; put the images of each class into a folder named after it"


def images_below(folder: Path) -> Iterator[tuple[str, int]]:
    """Path below ``folder`` and size in bytes of every image in it, at any depth.

    Hidden files and folders and archive debris are left out.
    """
    seen: set[tuple[int, int]] = set()
    for home, folders, files in os.walk(folder, followlinks=True):
        about = Path(home).stat()
        if (about.st_dev, about.st_ino) in seen:  # a link that leads back up
            folders.clear()
            continue
        seen.add((about.st_dev, about.st_ino))
        folders[:] = [name for name in folders if not _hidden(name)]
        for name in files:
            if Path(name).suffix.lower() in SUFFIXES and not _hidden(name):
                path = Path(home, name)
                size = path.stat().st_size if path.exists() else -1  # a dangling link
                yield path.relative_to(folder).as_posix(), size


def _unlabelled_part(home: Path, role: str) -> tuple[Part, str]:
    """Every image below a folder, sorted by name, and their digest."""
    found = sorted(images_below(home))
    if not found:
        raise DataError(f"the {role} folder {home} holds no images ({' '.join(sorted(SUFFIXES))})")
    return _listed(home, found, None)


def _part(home: Path, role: str, *, classes: tuple[str, ...]) -> tuple[Part, str]:
    """One split and its digest: every class folder's images, class by class, sorted by name."""
    images: list[tuple[str, int]] = []
    labels: list[int] = []
    unseen = [folder.name for folder in _folders(home) if folder.name not in classes]
    if unseen:
        raise DataError(
            f"the {role} folder {home} has classes that train never shows: {some(unseen)}; "
            "remove these folders or add training examples"
        )
    for label, name in enumerate(classes):
        found = sorted(images_below(home / name)) if (home / name).is_dir() else []
        if not found and role == "train":
            raise DataError(
                f"the class folder {home / name} holds no images "
                f"({' '.join(sorted(SUFFIXES))}); add some or remove it"
            )
        images += [(f"{name}/{path}", size) for path, size in found]
        labels += [label] * len(found)
    return _listed(home, images, np.array(labels, np.int64))


def _listed(
    home: Path, images: list[tuple[str, int]], labels: Int64[np.ndarray, " n"] | None
) -> tuple[Part, str]:
    """Names below ``home`` and sizes as a split, and the digest of both and of some contents."""
    digest = hashlib.sha256()
    for name, size in images:
        digest.update(os.fsencode(f"{name}\0{size}\0"))
    files = image_files(home, [name for name, _ in images])
    step = max(1, len(files) // SAMPLE)
    for row in range(0, len(files), step):
        if files.path(row).is_file():
            digest.update(hashlib.sha256(files.path(row).read_bytes()).digest())
    return Part(reader=files, labels=labels), digest.hexdigest()
