"""Files and folders that are replaced whole, or not at all."""

from pathlib import Path

import pytest

from distill.whole import set_aside


def filled(folder: Path, text: str) -> Path:
    folder.mkdir()
    (folder / "a").write_text(text)
    return folder


def test_the_old_folder_goes_when_there_is_a_new_one(tmp_path: Path) -> None:
    folder = filled(tmp_path / "one", "old")
    with set_aside(folder, wanted=True):
        assert not folder.exists()
        filled(folder, "new")
    assert (folder / "a").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["one"]


@pytest.mark.parametrize("wanted", [True, False])
def test_it_is_back_where_nothing_took_its_place(tmp_path: Path, *, wanted: bool) -> None:
    folder = filled(tmp_path / "one", "old")
    with pytest.raises(RuntimeError), set_aside(folder, wanted=wanted):
        raise RuntimeError
    assert (folder / "a").read_text() == "old"
    with set_aside(folder, wanted=wanted):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["one"]


def test_after_a_kill_the_next_call_puts_it_back_or_takes_it_away(tmp_path: Path) -> None:
    folder, aside = tmp_path / "one", filled(tmp_path / ".one.replaced", "old")
    with set_aside(folder, wanted=False):
        assert (folder / "a").read_text() == "old"
    aside = filled(aside, "older")
    with set_aside(folder, wanted=False):
        assert not aside.exists()
    assert (folder / "a").read_text() == "old"


def test_what_was_never_there_is_nothing_to_keep(tmp_path: Path) -> None:
    with set_aside(tmp_path / "one", wanted=True):
        pass
    assert list(tmp_path.iterdir()) == []
