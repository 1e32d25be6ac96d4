"""Ranks that were tried are read back as they were, whatever a kill left of the file."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.tried import TriedRanks, tried_ranks

KEYS = st.tuples(st.integers(0, 9), st.text(max_size=9), st.integers(1, 999))
FOUND = st.dictionaries(KEYS, st.floats(allow_nan=False, allow_infinity=False), max_size=6)


@given(found=FOUND)
def test_what_was_found_is_read_back_to_the_bit(
    tmp_path_factory: pytest.TempPathFactory, found: dict[tuple[int, str, int], float]
) -> None:
    file = tmp_path_factory.mktemp("tried") / "not" / "yet" / "tried.jsonl"
    TriedRanks(file).update(found)
    assert file.exists() == bool(found)  # nothing is written of nothing
    assert TriedRanks(file).data == found


@given(kept=st.data())
def test_of_a_file_cut_anywhere_whole_lines_count_and_it_goes_on(
    tmp_path_factory: pytest.TempPathFactory, kept: st.DataObject
) -> None:
    file = tmp_path_factory.mktemp("tried") / "tried.jsonl"
    found = {(0, "a.b", 64): 0.1 + 0.2, (0, "a.b", 2): 1e-17, (1, "a.b", 64): 3.0}
    TriedRanks(file).update(found)
    content = file.read_bytes()
    cut = content[: kept.draw(st.integers(0, len(content)))]
    file.write_bytes(cut)
    tried = TriedRanks(file)
    assert tried.data == dict(list(found.items())[: cut.count(b"\n")])
    tried.update(found)
    assert TriedRanks(file).data == found


@pytest.mark.parametrize(
    "bad",
    [
        b"\0\0\0\n", b"[1]\n", b'{"a": 1}\n', b"7\n", b"\xff\n", b'[Infinity, "a", 1, 0.5]\n',
        b'[0, "a", 2, NaN]\n', b'[0, "a", 2, Infinity]\n', b'[0, "a", 2, "1"]\n',
    ],
)  # fmt: skip
def test_what_follows_a_line_that_cannot_be_read_is_found_anew(tmp_path: Path, bad: bytes) -> None:
    file = tmp_path / "tried.jsonl"
    TriedRanks(file).update({(0, "a", 1): 1.0, (0, "a", 2): 2.0})
    first, second = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(first + bad + second)
    tried = TriedRanks(file)
    assert tried.data == {(0, "a", 1): 1.0}
    tried[0, "a", 3] = 3.0
    assert TriedRanks(file).data == {(0, "a", 1): 1.0, (0, "a", 3): 3.0}


def test_other_settings_have_other_files_and_success_forgets_them_all(tmp_path: Path) -> None:
    made = {"network": "sha256:1", "init": "svd", "floor": 0.0, "candidates": 8}
    folder = tmp_path / "teacher-[mlp]"
    of_another = tmp_path / ".teacher-m.tried-0.jsonl"
    of_another.touch()

    def interrupted(init: str) -> None:
        with tried_ranks(folder, {**made, "init": init}) as tried:
            assert not tried
            tried[0, "a", 1] = 1.0
            raise KeyboardInterrupt

    for init in ("svd", "whitened"):
        with pytest.raises(KeyboardInterrupt):
            interrupted(init)
    assert len(list(tmp_path.iterdir())) == 3
    # how far down the path goes, and which ranks it may take, say nothing about what a rank spoils
    with tried_ranks(folder, {**made, "floor": 0.5, "candidates": 16}) as again:
        assert again.data == {(0, "a", 1): 1.0}
    assert list(tmp_path.iterdir()) == [of_another]
