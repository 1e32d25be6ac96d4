"""Students to share: a folder of weights, config and model card, on disk or on a hub.

``load`` reads what training left in a run, ``PretrainedStudent`` is what it gives, and what
``from_pretrained`` reads back from where ``save_pretrained`` or ``push_to_hub`` put it:

    model.safetensors    the tensors and their digest, as in ``students.checkpoint``
    config.json          blueprint, classes, preprocessing, what it was made from, what was measured
    tokenizer/           of a student that reads text; processor/ where one prepares its images
    README.md            the model card
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, final

from huggingface_hub import ModelCard, PyTorchModelHubMixin
from huggingface_hub.errors import HFValidationError
from jaxtyping import Float
from torch import Tensor, nn

from students.blueprint import Blueprint
from students.checkpoint import digest_of, read_tensors, write_tensors
from students.encoders import Prepared
from students.errors import CheckpointError, StudentError, first_line
from students.model_card import model_card
from students.portable import portable
from students.records import record_beside
from students.saved import fill, load_student, read_blueprint, take_prefixes, unfilled
from students.shared_folders import (
    CONFIG,
    FILE,
    KNOWN,
    OUT_OF_REACH,
    PARTS,
    WEIGHTS,
    find_folder,
    read_config,
    reason,
)

FORMAT = 1


@final
class PretrainedStudent(
    nn.Module,
    PyTorchModelHubMixin,
    library_name="subspace-distill",
    tags=["subspace-distillation"],
):
    """A student ready to use: called with a prepared batch, it gives logits.

    ``record`` is what was measured, ``folder`` where its tokenizer lies; both may be missing.
    """

    def __init__(
        self,
        *,
        blueprint: Mapping[str, Any],
        classes: Sequence[str],
        preprocessing: Mapping[str, Any],
        made_by: Mapping[str, Any],
        record: Mapping[str, Any] = {},
        weights: str = "",  # digest of those that the record speaks of
        format: int = FORMAT,  # noqa: A002 - as the config names it
    ) -> None:
        super().__init__()
        if format != FORMAT:
            raise CheckpointError(
                f"a student of format {format!r} cannot be read: this version reads {FORMAT}; "
                "update this program, or share the student again"
            )
        self.blueprint: Blueprint = read_blueprint(blueprint, Path(CONFIG))
        self.classes = tuple(classes)
        self.preprocessing = dict(preprocessing)
        self.made_by = dict(made_by)
        self.record = dict(record)
        self.weights = weights
        self.folder: Path | None = None
        self.network = unfilled(self.blueprint, self.classes)
        self.prefix = nn.ModuleDict()  # heads on the first so many numbers, by how many
        self.eval()

    def forward(self, prepared: Prepared, width: int = 0) -> Float[Tensor, "rows classes"]:
        """Logits of a prepared batch; ``width``, one of ``widths``, reads so many numbers only."""
        if width and width not in self.widths:
            known = ", ".join(map(str, self.widths)) or "none"
            raise StudentError(f"the student has no head of width {width}; it has {known}")
        rows = self.network.encoder(prepared)
        head = self.prefix[str(width)] if width else self.network.head
        logits: Tensor = head(rows[:, :width] if width else rows)
        return logits

    @property
    def modality(self) -> str:
        """What it reads: "image" or "text"."""
        return self.blueprint.modality

    @property
    def dim_out(self) -> int:
        """How many numbers ``embed`` gives."""
        return int(self.network.head.in_features)

    @property
    def widths(self) -> tuple[int, ...]:
        """How many of its first numbers have a head of their own, narrowest first."""
        return tuple(map(int, self.prefix))

    def embed(self, prepared: Prepared) -> Float[Tensor, "rows dim_out"]:
        """Rows of the target space, which the head reads."""
        rows: Tensor = self.network.encoder(prepared)
        return rows

    @property
    def measured(self) -> bool:
        """Whether the weights are still those that the record speaks of."""
        return self.weights == digest_of(self.tensors())

    def tensors(self) -> dict[str, Tensor]:
        """Everything learned, by the names that ``save_student`` gives."""
        heads = {f"prefix.{name}": tensor for name, tensor in self.prefix.state_dict().items()}
        return {**self.network.state_dict(), **heads}

    def fill(self, tensors: dict[str, Tensor], source: Path) -> None:
        """Take what ``tensors`` gave of such a student; ``CheckpointError`` for another's."""
        heads = take_prefixes(tensors)
        fill(self.network, tensors, self.blueprint, source)
        self.prefix = nn.ModuleDict({str(width): head for width, head in heads.items()}).eval()

    def save_pretrained(
        self, save_directory: str | Path, *, overwrite: bool = False, **hub: Any
    ) -> str | None:
        """Write the folder described above; ``push_to_hub=True`` and ``repo_id`` also send it.

        ``StudentError`` for a folder that is not empty, unless ``overwrite``, and where the
        tokenizer is missing. What is overwritten stays until all of the new one is written.
        """
        folder = Path(save_directory)
        if folder.exists() and not folder.is_dir():
            raise StudentError(f"{folder} is a file; save_pretrained wants a folder")
        if folder.is_dir() and any(folder.iterdir()):
            if not overwrite:
                raise StudentError(
                    f"{folder} is not empty; name another folder, or say overwrite=True"
                )
            with TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as room:
                scratch = Path(room) / folder.name
                sent: str | None = super().save_pretrained(scratch, **hub)
                _move_over(scratch, folder)
            return sent
        alone: str | None = super().save_pretrained(folder, **hub)
        return alone

    def _save_pretrained(self, save_directory: Path) -> None:
        """Write all but the model card, the config last: without it there is no student."""
        self._copy_parts(save_directory)
        kind = {"kind": "pretrained student"}
        write_tensors(save_directory / WEIGHTS, self.tensors(), kind)
        config = {
            "format": FORMAT,
            "blueprint": asdict(portable(self.blueprint)),
            "classes": list(self.classes),
            "preprocessing": self.preprocessing,
            "made_by": self.made_by,
            "record": self.record,
            "weights": self.weights,
        }
        scratch = save_directory / f".{CONFIG}.partial"
        text = json.dumps(config, indent=1, sort_keys=True, ensure_ascii=False)
        scratch.write_text(text + "\n", encoding="utf-8")
        scratch.replace(save_directory / CONFIG)

    def _copy_parts(self, folder: Path) -> None:
        needed = needed_part(self.blueprint, self.preprocessing)
        if needed and (self.folder is None or not (self.folder / needed).is_dir()):
            raise StudentError(
                f"{self.folder or '.'}/{needed} is missing, without which nothing can be read; "
                "load the student from where it was trained"
            )
        for name in PARTS:
            source, target = (self.folder or folder) / name, folder / name
            if target.is_dir() and not (source.is_dir() and source.samefile(target)):
                shutil.rmtree(target)
            if source.is_dir() and not target.is_dir():
                shutil.copytree(source, target)

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | Path, *, trust_code: bool = False, **hub: Any
    ) -> "PretrainedStudent":
        """Read a folder of ``save_pretrained``, or fetch one by its name on the hub.

        A network of one's own, ``module:factory``, is built by calling what its config names, so
        that ``trust_code`` has to be said. ``hub`` is as for ``huggingface_hub.snapshot_download``:
        ``revision``, ``token``, ``cache_dir``, ``local_files_only``. Raises ``StudentError`` and
        its kinds.
        """
        folder = find_folder(str(pretrained_model_name_or_path), hub)
        read_config(folder, trust_code=trust_code)
        student: PretrainedStudent = super().from_pretrained(folder)
        return student

    @classmethod
    def _from_pretrained(cls, *, model_id: str, **settings: Any) -> "PretrainedStudent":
        folder = Path(model_id)
        student = cls(**{name: settings[name] for name in KNOWN})
        tensors, _ = read_tensors(folder / WEIGHTS)
        student.fill(tensors, folder)
        student.folder = folder
        return student

    def push_to_hub(self, repo_id: str, **hub: Any) -> str:
        """Send the folder of ``save_pretrained`` to the hub as one commit; its address.

        ``hub``: ``private``, ``token``, ``branch``, ``commit_message``, ``create_pr``, … as
        huggingface_hub's mixin takes them. ``StudentError`` where the hub cannot be reached or
        refuses.
        """
        try:
            sent: str = super().push_to_hub(repo_id, **hub)
        except HFValidationError as error:
            raise StudentError(f"{repo_id!r} is no name of a hub: {first_line(error)}") from error
        except OUT_OF_REACH as error:
            raise StudentError(
                f"the student cannot be sent to {repo_id} ({reason(error)}); `hf auth login` "
                "signs in, and save_pretrained keeps it in a folder"
            ) from error
        return sent

    def generate_model_card(self, *_: Any, **__: Any) -> ModelCard:
        """Tell what it is, what was measured, and how it is used."""
        return model_card(self, self._hub_mixin_info.model_card_data)


def load(path: Path | str) -> PretrainedStudent:
    """Read the student at ``path``, ready to use: on the CPU, in eval mode.

    ``path`` is its folder in a run, the file in it, or a folder of ``save_pretrained``. Raises
    ``StudentError`` where there is none, ``CheckpointError`` for one that is damaged.
    """
    path = Path(path)
    if (path / CONFIG).is_file() and (path / WEIGHTS).is_file():
        return PretrainedStudent.from_pretrained(path)
    file = path / FILE if path.is_dir() else path
    if not file.is_file():
        raise StudentError(f"there is no student at {path}{_near(path)}")
    saved = load_student(file)
    student = PretrainedStudent(
        blueprint=asdict(saved.blueprint),
        classes=list(saved.classes),
        preprocessing=dict(saved.preprocessing),
        made_by=dict(saved.made_by),
        record=record_beside(file),
    )
    student.network = saved.network
    heads = {str(width): head for width, head in saved.prefixes.items()}
    student.prefix = nn.ModuleDict(heads).eval()
    student.weights = digest_of(student.tensors())
    student.folder = file.parent
    return student


def needed_part(blueprint: Blueprint, preprocessing: Mapping[str, Any]) -> str:
    """Which of ``PARTS`` such a student cannot do without; "" if none."""
    if blueprint.modality == "text":
        return "tokenizer"
    return "processor" if preprocessing.get("made_by") == "transformers" else ""


def _near(path: Path) -> str:
    """Name the students of a run folder that was named instead of one of them."""
    names = sorted(file.parent.name for file in path.glob(f"students/*/{FILE}"))
    if names:
        return f"; it is a run with students of its own: {path}/students/{names[0]}" + (
            f", or {', '.join(names[1:])} there" if names[1:] else ""
        )
    return "; name its folder, runs/NAME/students/STUDENT, or a folder of save_pretrained"


def _move_over(source: Path, folder: Path) -> None:
    """Put each thing in the place of its namesake, the config last; parts of another go."""
    for name in PARTS:
        if not (source / name).is_dir():
            shutil.rmtree(folder / name, ignore_errors=True)
    for path in sorted(source.iterdir(), key=lambda path: path.name == CONFIG):
        target = folder / path.name
        if target.is_dir():
            shutil.rmtree(target)
        path.replace(target)
