"""Folders that are replaced whole, or not at all."""

from pathlib import Path

import pytest

from distill.replacing import replacing


def filled(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True)
    (folder / "a").write_text(text)
    return folder


def told(folder: Path) -> str:
    return (folder / "a").read_text()


def begun(folder: Path, text: str, *, made_from: str = "x") -> None:
    """Begin another, and fail."""
    with replacing(folder, wanted=True, made_from=made_from) as place:
        filled(place, text)
        raise RuntimeError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return filled(tmp_path / "one", "old")


def test_the_old_folder_goes_when_another_is_finished(folder: Path) -> None:
    with replacing(folder, wanted=True, made_from="x") as place:
        assert place.name == folder.name
        assert not place.exists()
        filled(place, "new")
        assert told(folder) == "old"
    assert told(folder) == "new"
    assert [path.name for path in folder.parent.iterdir()] == ["one"]


def test_where_none_is_wanted_or_there_the_work_is_done_in_its_place(tmp_path: Path) -> None:
    folder = tmp_path / "one"
    for wanted in (True, False):
        with replacing(folder, wanted=wanted, made_from="x") as place:
            assert place == folder
    assert list(tmp_path.iterdir()) == []
    filled(folder, "old")
    with replacing(folder, wanted=False, made_from="x") as place:
        assert place == folder
    assert told(folder) == "old"


def test_what_failed_waits_for_the_next_that_is_made_the_same(folder: Path) -> None:
    with pytest.raises(RuntimeError):
        begun(folder, "half")
    assert told(folder) == "old"
    with replacing(folder, wanted=False, made_from="x") as place:  # and disturbs nobody
        assert told(place) == "old"
    with replacing(folder, wanted=True, made_from="x") as place:
        assert told(place) == "half"
        (place / "a").write_text("new")
    assert told(folder) == "new"
    assert [path.name for path in folder.parent.iterdir()] == ["one"]


def test_of_another_it_is_dropped(folder: Path) -> None:
    with pytest.raises(RuntimeError):
        begun(folder, "half")
    with pytest.raises(RuntimeError):
        begun(folder, "another", made_from="y")
    with replacing(folder, wanted=True, made_from="x") as place:
        assert not place.exists()
    assert told(folder) == "old"  # where nothing was made, nothing is replaced
    assert [path.name for path in folder.parent.iterdir()] == ["one"]


@pytest.mark.parametrize("wanted", [True, False])
@pytest.mark.parametrize("made_from", ["x", "y"])
@pytest.mark.parametrize("after", [1, 2])
def test_after_a_kill_between_the_two_the_new_one_is_there(
    folder: Path, monkeypatch: pytest.MonkeyPatch, after: int, made_from: str, *, wanted: bool
) -> None:
    """Right after the old one went, or the new one came."""
    rename, renamed = Path.rename, []

    def dies(path: Path, target: Path) -> Path:
        found = rename(path, target)
        renamed.append(path)
        if len(renamed) == after:
            raise KeyboardInterrupt
        return found

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", dies)
        with (
            pytest.raises(KeyboardInterrupt),
            replacing(folder, wanted=True, made_from="x") as place,
        ):
            filled(place, "new")
    with replacing(folder, wanted=wanted, made_from=made_from) as place:
        assert place.exists() != wanted
        assert told(folder) == "new"
        if wanted:
            filled(place, "newer")
    assert told(folder) == ("newer" if wanted else "new")
    assert [path.name for path in folder.parent.iterdir()] == ["one"]


def test_a_process_that_follows_works_where_the_one_that_leads_does(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def followed(made_from: str = "x") -> Path:
        with monkeypatch.context() as patched:
            patched.setenv("WORLD_SIZE", "2")
            patched.setenv("RANK", "1")
            with replacing(folder, wanted=False, made_from=made_from) as place:
                return place

    assert followed() == folder
    with replacing(folder, wanted=True, made_from="x") as led:
        filled(led, "new")
        assert followed() == led
        assert followed("y") == folder
    assert followed() == folder  # which is the new one
    assert told(folder) == "new"
    with pytest.raises(RuntimeError):
        begun(folder, "half")
    with replacing(folder, wanted=False, made_from="x") as led:
        assert led == followed() == folder  # and not where an earlier one failed


def test_after_a_kill_within_a_follower_is_not_led_astray(folder: Path) -> None:
    room = folder.with_name(".one.next")
    with pytest.raises(RuntimeError):
        begun(folder, "half")
    (room / "busy").touch()
    with replacing(folder, wanted=False, made_from="x"):
        assert not (room / "busy").exists()


@pytest.mark.parametrize("name", ["new", "old", "made_from", "busy", ".hidden", "a[b]"])
def test_it_may_have_any_name(tmp_path: Path, name: str) -> None:
    folder = filled(tmp_path / name, "old")
    with pytest.raises(RuntimeError):
        begun(folder, "half")
    with replacing(folder, wanted=True, made_from="x") as place:
        assert told(place) == "half"
    assert told(folder) == "half"
    assert [path.name for path in tmp_path.iterdir()] == [name]
