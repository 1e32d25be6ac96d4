"""Every flipped bit and every stray file is found, named, and made good again."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from stores import (
    Damage,
    IncompleteStoreError,
    MissingStoreError,
    StoreDamagedError,
    StoreError,
    create_store,
    open_store,
    repair_store,
    verify_splits,
    verify_store,
)
from tests.stores_examples import digests, fill, small_spec, write


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A sound folder of two small stores."""
    for split in ("train", "test"):
        fill(tmp_path / "features.zarr" / split, small_spec())
    return tmp_path / "features.zarr"


def place_of(name: str) -> tuple[int | None, tuple[int, int] | None]:
    """Chunk and rows of a file of the small store."""
    if "/c." not in name:
        return None, None
    chunk = int(name.split("/c.")[1].split(".")[0])
    return chunk, [(0, 4), (4, 8), (8, 10)][chunk]


def test_a_sound_store_has_no_damage(root: Path) -> None:
    assert verify_store(root) == []
    assert verify_store(root / "train") == []


def test_a_flip_of_any_byte_of_any_file_is_found_and_named(tmp_path: Path) -> None:
    root = tmp_path / "features.zarr"
    fill(root / "train", small_spec(labelled=False, logits=0, classes=()))
    flips = 0
    for file in sorted(path for path in root.rglob("*") if path.is_file()):
        verified = root if file.parent == root else root / "train"
        name = file.relative_to(verified).as_posix()
        sound = file.read_bytes()
        for place in range(len(sound)):
            changed = bytearray(sound)
            changed[place] ^= 1 << place % 8
            file.write_bytes(changed)
            (damage,) = verify_store(verified)
            assert (damage.file, damage.chunk, damage.rows) == (name, *place_of(name))
            flips += 1
        file.write_bytes(sound)
    assert flips > 2000
    assert verify_store(root) == []


def test_every_bit_of_a_manifest_counts(root: Path) -> None:
    file = root / "train" / "zarr.json"
    sound = file.read_bytes()
    for place in range(0, len(sound), 97):
        for bit in range(8):
            changed = bytearray(sound)
            changed[place] ^= 1 << bit
            file.write_bytes(changed)
            with pytest.raises(StoreDamagedError, match=r"zarr\.json is damaged"):
                open_store(root / "train")


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[7] ^= 4
    file.write_bytes(data)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-3])


def grow(file: Path) -> None:
    file.write_bytes(file.read_bytes() + b"\0")


def to_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


FILES = [
    "features/c.0.0",
    "features/c.2.0",
    "ids/c.1",
    "labels/c.1",
    "logits/c.1.0",
    "features/zarr.json",
    "labels/zarr.json",
    "zarr.json",
]


@pytest.mark.parametrize("harm", [flip, cut, grow, Path.unlink, to_folder])
@pytest.mark.parametrize("name", FILES)
def test_damage_is_found_repaired_and_made_again_byte_for_byte(
    root: Path, name: str, harm: Callable[[Path], None]
) -> None:
    expected = digests(root)
    harm(root / "train" / name)
    damages = verify_store(root)
    chunk, rows = place_of(name)
    assert [(d.file, d.chunk, d.rows) for d in damages] == [(f"train/{name}", chunk, rows)]
    repair_store(root, damages)
    with create_store(root / "train", small_spec()) as writer:
        assert writer.pending() == ([] if chunk is None else [chunk])
        for index in writer.pending():
            write(writer, index)
    assert digests(root) == expected
    assert verify_store(root) == []


def test_a_repaired_store_is_not_data_until_it_is_made_again(root: Path) -> None:
    flip(root / "train" / "labels/c.1")
    repair_store(root / "train", verify_store(root / "train"))
    with pytest.raises(IncompleteStoreError):
        open_store(root / "train")


def test_repairing_documents_and_strangers_needs_no_new_rows(root: Path) -> None:
    expected = digests(root)
    flip(root / "train" / "ids/zarr.json")
    (root / "train" / "notes.txt").write_text("mine")
    repair_store(root, verify_store(root))
    assert digests(root) == expected
    assert open_store(root / "train").spec == small_spec()


def test_chunks_that_changed_places_are_found(root: Path) -> None:
    store = root / "train"
    first, second = store / "features/c.0.0", store / "features/c.1.0"
    shutil.copy(second, first)
    assert verify_store(store) == [
        Damage("features/c.0.0", "holds another chunk than was written there", 0, (0, 4))
    ]
    shutil.copy(root / "test" / "features/c.0.0", first)  # the same rows: the same bytes
    assert verify_store(store) == []


def test_a_changed_fill_value_is_found(root: Path) -> None:
    document = root / "train" / "labels" / "zarr.json"
    document.write_text(document.read_text().replace('"fill_value": -1', '"fill_value": -2'))
    (damage,) = verify_store(root / "train")
    assert str(damage) == "labels/zarr.json holds other bytes than were written"


def test_foreign_files_are_found_wherever_they_lie(root: Path) -> None:
    for name in ("notes.txt", "features/c.3.0", "labels/c.1.partial", "more/deep/file"):
        file = root / "train" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("?")
    (root / "train" / "link").symlink_to(root / "nowhere")
    (root / "top.txt").write_text("?")
    found = {damage.file for damage in verify_store(root)}
    assert found == {
        "top.txt",
        "train/notes.txt",
        "train/features/c.3.0",
        "train/labels/c.1.partial",
        "train/more/deep/file",
        "train/link",
    }
    expected = {name: sha for name, sha in digests(root).items() if name not in found}
    repair_store(root, verify_store(root))
    assert verify_store(root) == []
    assert digests(root) == expected


def test_several_damages_are_all_named_in_order(root: Path) -> None:
    for name in ("features/c.2.0", "features/c.0.0", "ids/c.1"):
        flip(root / "test" / name)
    (root / "train" / "features/c.1.0").unlink()
    assert [str(damage) for damage in verify_store(root)] == [
        "train/features/c.1.0 is missing (rows 4 to 7)",
        "test/ids/c.1 fails its checksum (rows 4 to 7)",
        "test/features/c.0.0 fails its checksum (rows 0 to 3)",
        "test/features/c.2.0 fails its checksum (rows 8 to 9)",
    ]


def test_a_lost_manifest_does_not_let_other_rows_in(root: Path) -> None:
    (root / "train" / "zarr.json").unlink()
    repair_store(root, verify_store(root))
    with pytest.raises(StoreDamagedError, match=r"lost its zarr\.json, and its .* were made with"):
        create_store(root / "train", small_spec(made_by={"teacher": "another"}))


def test_the_document_of_the_folder_is_put_back(root: Path) -> None:
    expected = digests(root)
    for harm in (flip, Path.unlink):
        harm(root / "zarr.json")
        (damage,) = verify_store(root)
        assert damage.file == "zarr.json"
        repair_store(root, [damage])
        assert digests(root) == expected


def test_what_is_not_a_finished_store_is_not_verified(root: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingStoreError):
        verify_store(tmp_path / "nothing")
    with pytest.raises(MissingStoreError, match="there is no store in"):
        verify_store(tmp_path / "nothing.zarr")
    create_store(root / "validation", small_spec()).close()
    with pytest.raises(IncompleteStoreError, match="validation was begun but never finished"):
        verify_store(root)


def test_an_unfinished_split_hides_no_damage_of_another(root: Path) -> None:
    create_store(root / "views", small_spec()).close()
    (root / "begun").mkdir()  # killed before its first file was in place
    flip(root / "train" / "labels/c.1")
    found = verify_splits(root)
    assert [str(damage) for damage in found.damages] == [
        "train/labels/c.1 fails its checksum (rows 4 to 7)"
    ]
    assert found.unfinished == (root / "begun", root / "views")
    assert found.stores == 2
    assert found.files == 1 + 2 * (1 + 4 + 4 * 3)  # what is only begun is not read
    assert verify_store(root) == list(found.damages)


def test_a_folder_in_which_nothing_is_finished_is_not_damaged(tmp_path: Path) -> None:
    root = tmp_path / "features.zarr"
    create_store(root / "train", small_spec()).close()
    (root / "zarr.json").unlink()
    found = verify_splits(root)
    assert (found.stores, found.files, found.damages) == (0, 0, ())
    assert found.unfinished == (root / "train",)


def test_no_damage_means_nothing_is_touched(root: Path) -> None:
    before = digests(root)
    repair_store(root / "train", [])
    repair_store(root, [])
    assert digests(root) == before


def test_repair_takes_no_file_outside_the_store(root: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(StoreError, match="is not a file of the store"):
        repair_store(root / "train", [Damage("../../thesis.tex", "is not part of the store")])
    assert (tmp_path / "thesis.tex").exists()
