"""Opening a run: which config counts, which folder, who else is in it, and how errors are told.

Settings are taken from ``--config``, else the run folder's own file, else the digits default (or,
where other data is named, neutral defaults); then from the options given by hand. A ``--config``
that names no data changes settings of the run and leaves all others as they are there.
"""

import errno
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill.config import DIGITS, Config, ConfigError, load_config, settle, write_config
from distill.findings import FindingError
from distill.runs import Run, RunError
from distill.together import follows
from distill.whole import whole

if TYPE_CHECKING:  # quoted below, so that opening a run loads no data library
    from distill.datasets import Dataset

# Front doors of the parts and the one error each of them raises at its users. A part that is not
# loaded has raised nothing, so none is imported to find out.
TOLD = (
    ("stores", "StoreError"),
    ("projections", "ProjectionError"),
    ("teachers", "TeacherError"),
    ("students", "StudentError"),
    ("distill.datasets", "DataError"),
    ("distill.errors", "StageError"),
)
HARDWARE = {
    errno.ENOSPC: "the disk is full; free some room and run the same command again: what was "
    "finished is kept",
    errno.EDQUOT: "the disk quota is used up; free some room and run the same command again: what "
    "was finished is kept",
    errno.EACCES: "permission denied; choose a folder you may write to with --run",
    errno.EPERM: "permission denied; choose a folder you may write to with --run",
    errno.EFBIG: "the file grew too large for this disk or a limit on file sizes; mend that and "
    "run the same command again: what was finished is kept",
    errno.EROFS: "this file system is read-only; choose another folder with --run",
}
# safetensors writes its files itself, and its errors are no OSError
RUST, OS_ERROR = ("SafetensorError",), re.compile(r"\(os error (\d+)\)")


class UserError(Exception):
    """Something the user can mend, told in one line."""


@dataclass(frozen=True)
class Opened:
    """A run folder and the config that counts in it."""

    run: Run
    config: Config

    @cached_property
    def dataset(self) -> "Dataset":
        """The examples, split: loaded, and their contents looked at, once."""
        from distill.datasets import load_dataset

        return load_dataset(self.config.data)

    @cached_property
    def pool(self) -> "Dataset | None":
        """The unlabeled data, as one split ``train``; None where none are named."""
        from distill.datasets import load_pool

        name = self.config.extract.unlabeled
        return load_pool(name, self.config.data, self.dataset) if name else None

    def keep_config(self) -> None:
        """Write the resolved config: everything is checked, and the work begins.

        What is killed from now on is gone on with by any command on this folder.
        """
        if not follows():
            write_config(self.config, self.run.config)


@contextmanager
def told() -> Iterator[None]:
    """Turn what a part says is wrong into a ``UserError``; bugs pass through untouched."""
    try:
        yield
    except (ConfigError, RunError, FindingError) as error:
        raise UserError(one_line(error)) from error
    except OSError as error:
        if error.errno not in HARDWARE:
            raise
        where = f"{error.filename}: " if error.filename else ""
        raise UserError(where + HARDWARE[error.errno]) from error
    except Exception as error:
        told_by_rust = OS_ERROR.search(str(error)) if type(error).__name__ in RUST else None
        if told_by_rust and int(told_by_rust[1]) in HARDWARE:
            raise UserError(HARDWARE[int(told_by_rust[1])]) from error
        if isinstance(error, _part_errors()):
            raise UserError(one_line(error)) from error
        if type(error).__name__ == "OutOfMemoryError":  # torch's, not worth importing torch for
            raise UserError(
                f"out of memory on the device; use a smaller --batch-size ({one_line(error)[:120]})"
            ) from error
        raise


def one_line(error: BaseException) -> str:
    """The message of an error on one line."""
    return " ".join(str(error).split())


def _part_errors() -> tuple[type[BaseException], ...]:
    loaded = ((sys.modules.get(module), name) for module, name in TOLD)
    return tuple(
        getattr(module, name)
        for module, name in loaded
        if module is not None and hasattr(module, name)
    )


def peek(run: Path | str, config: Path | str | None, overrides: Mapping[str, Any]) -> Opened:
    """The run and its config, changing nothing on disk."""
    opened = Run(Path(run))
    return Opened(opened, settle(_tables(opened, config, overrides), overrides))


@contextmanager
def opened_for_writing(
    run: Path | str, config: Path | str | None, overrides: Mapping[str, Any]
) -> Iterator[Opened]:
    """The run, locked. Its config is written once the work is done, by ``keep_config`` before.

    A command refused for a wrong name must not leave that name behind for the next command: where
    there was a config, it is put back when the work fails, also if ``keep_config`` was called.
    """
    with told():
        opened = peek(run, config, overrides)
        if follows():
            yield opened
            return
        file = opened.run.config
        with opened.run.locked():
            before = file.read_bytes() if file.is_file() else None
            try:
                yield opened
            except KeyboardInterrupt:
                raise  # with what was kept as the work began, if it had
            except BaseException:
                if before is not None and file.read_bytes() != before:
                    with whole(file) as scratch:
                        scratch.write_bytes(before)
                raise
            write_config(opened.config, file)


def _tables(run: Run, config: Path | str | None, overrides: Mapping[str, Any]) -> Mapping[str, Any]:
    given = {} if config is None else load_config(Path(config))
    # a file that names no data is about settings: what this run is made of stays as it is
    if run.config.exists() and "name" not in given.get("data", {}):
        return _merged(load_config(run.config), given)
    if config is not None:
        return given
    elsewhere = overrides.get("data.name") not in (None, "digits")
    return {} if elsewhere else DIGITS


def _merged(own: Mapping[str, Any], given: Mapping[str, Any]) -> Mapping[str, Any]:
    """The settings of both, those given winning one by one."""
    return {
        **own,
        **{
            name: {**own.get(name, {}), **table} if isinstance(table, Mapping) else table
            for name, table in given.items()
        },
    }
