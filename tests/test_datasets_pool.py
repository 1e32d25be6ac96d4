"""Pools: the training rows of other data, all of them, unlabeled, and nothing that is held out."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from distill.config import DataConfig
from distill.datasets import BadInputError, DataError, Dataset, load_dataset, load_pool
from tests.datasets_examples import cache, sentences, write_csv, write_parquet

__all__ = ["cache"]
pytestmark = pytest.mark.usefixtures("cache")


def settings(name: str, **more: object) -> DataConfig:
    return DataConfig.model_validate({"name": name, **more})


def pool_beside(own: DataConfig, name: str) -> tuple[Dataset, Dataset]:
    """The run's own data, and the pool of that name."""
    data = load_dataset(own)
    return data, load_pool(name, own, data)


def labelled_parquet(path: Path, count: int, word: str = "sentence") -> Path:
    return write_parquet(path, text=sentences(count, word), label=[n % 2 for n in range(count)])


def images_in(folder: Path, count: int, *, seed: int = 0) -> Path:
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:03}.png")
    return folder


@pytest.fixture
def own(tmp_path: Path) -> DataConfig:
    """Forty labelled sentences in one file, of which some are carved out."""
    return settings(f"parquet:{labelled_parquet(tmp_path / 'own.parquet', 40)}")


def test_all_training_rows_of_other_data_are_taken_without_their_labels(
    own: DataConfig, tmp_path: Path
) -> None:
    other = labelled_parquet(tmp_path / "other.parquet", 30, "other")
    data, pool = pool_beside(own, f"parquet:{other}")
    assert list(pool.splits) == ["train"]
    split = pool.splits["train"]
    assert split.labels is None
    assert pool.classes == ()
    assert list(split.inputs) == sentences(30, "other")  # nothing is carved, nothing is mixed
    assert split.ids.tolist() == list(range(30))
    assert pool.modality == data.modality == "text"
    assert pool.notes == ()


def test_official_validation_and_test_rows_are_never_taken(own: DataConfig, tmp_path: Path) -> None:
    for role, count in (("train", 12), ("validation", 5), ("test", 7)):
        labelled_parquet(tmp_path / "set" / f"{role}.parquet", count, role)
    _, pool = pool_beside(own, f"parquet:{tmp_path / 'set'}")
    assert list(pool.splits["train"].inputs) == sentences(12, "train")


@pytest.mark.parametrize("written", ["same", "dotted"])
def test_of_the_runs_own_data_only_what_it_leaves_unused_is_taken(
    written: str, tmp_path: Path
) -> None:
    """With a limit most rows are left; what was carved out stays out, chosen or not."""
    path = labelled_parquet(tmp_path / "own.parquet", 200)
    config = settings(f"parquet:{path}", limit=10)
    again = path if written == "same" else path.parent / ".." / path.parent.name / path.name
    data, pool = pool_beside(config, f"parquet:{again}")
    whole = load_dataset(settings(f"parquet:{path}"))
    taken = set(pool.splits["train"].inputs)
    assert taken.isdisjoint(data.splits["train"].inputs)
    for role in ("validation", "test"):
        assert len(data.splits[role]) == 10 < len(whole.splits[role])
        assert taken.isdisjoint(whole.splits[role].inputs)
    assert taken | set(data.splits["train"].inputs) == set(whole.splits["train"].inputs)
    left_out = 200 - len(taken)
    assert pool.notes == (
        f"{left_out} rows of parquet:{again} are this run's own and are left out of the pool",
    )


def test_data_that_are_all_the_runs_own_leave_nothing(own: DataConfig) -> None:
    with pytest.raises(DataError, match=r"every training row of .* is this run's own already"):
        pool_beside(own, own.name)


def test_a_folder_of_ones_own_test_images_leaves_nothing(tmp_path: Path) -> None:
    for role in ("train", "test"):
        for seed, name in enumerate(("cat", "dog")):
            images_in(tmp_path / "set" / role / name, 6, seed=seed)
    config = settings(f"imagefolder:{tmp_path / 'set'}")
    with pytest.raises(DataError, match="is this run's own already"):
        pool_beside(config, f"imagefolder:{tmp_path / 'set' / 'test'}")


def test_an_image_pool_needs_no_class_folders(tmp_path: Path) -> None:
    for seed, name in enumerate(("cat", "dog")):
        images_in(tmp_path / "set" / name, 9, seed=seed)
    loose = images_in(tmp_path / "loose", 5, seed=7)
    images_in(loose / "deeper" / "still", 2, seed=8)
    config = settings(f"imagefolder:{tmp_path / 'set'}")
    _, pool = pool_beside(config, f"imagefolder:{loose}")
    split = pool.splits["train"]
    places = [Path(split.inputs.where(at)).relative_to(loose).as_posix() for at in range(7)]
    deeper = ["deeper/still/000.png", "deeper/still/001.png"]
    assert places == [*(f"{number:03}.png" for number in range(5)), *deeper]
    assert split.labels is None
    assert split.inputs[0].size == (8, 8)


def test_an_image_pool_with_split_folders_is_its_train_folder(tmp_path: Path) -> None:
    for seed, name in enumerate(("cat", "dog")):
        images_in(tmp_path / "set" / name, 9, seed=seed)
        images_in(tmp_path / "other" / "train" / name, 3, seed=seed)
        images_in(tmp_path / "other" / "val" / name, 4, seed=seed)
    config = settings(f"imagefolder:{tmp_path / 'set'}")
    _, pool = pool_beside(config, f"imagefolder:{tmp_path / 'other'}")
    assert len(pool.splits["train"]) == 6


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    for seed, name in enumerate(("cat", "dog")):
        images_in(tmp_path / "set" / name, 9, seed=seed)
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "notes.txt").write_text("nothing here")
    config = settings(f"imagefolder:{tmp_path / 'set'}")
    with pytest.raises(DataError, match="bare holds no images"):
        pool_beside(config, f"imagefolder:{tmp_path / 'bare'}")


@pytest.mark.parametrize(
    "labels",
    [
        ["yes"] * 20 + [None] * 10,
        ["one class"] * 30,
        [f"{n}.5" for n in range(30)],  # no classes at all
        [f"{n}" for n in range(30)],  # another in every row
    ],
    ids=["missing", "one", "decimal", "unique"],
)
def test_labels_that_could_teach_nobody_do_not_matter(
    labels: list[Any], own: DataConfig, tmp_path: Path
) -> None:
    other = write_parquet(tmp_path / "other.parquet", text=sentences(30), label=labels)
    _, pool = pool_beside(own, f"parquet:{other}")
    assert list(pool.splits["train"].inputs) == sentences(30)  # no label became an input


def test_several_label_columns_do_not_matter_either(own: DataConfig, tmp_path: Path) -> None:
    import datasets

    features = datasets.Features(
        {
            "text": datasets.Value("string"),
            "coarse": datasets.ClassLabel(names=["a", "b"]),
            "fine": datasets.ClassLabel(names=["c", "d", "e"]),
        }
    )
    rows = {"text": sentences(4), "coarse": [0, 1, 0, 1], "fine": [0, 1, 2, 0]}
    path = tmp_path / "other.parquet"
    datasets.Dataset.from_dict(rows, features=features).to_parquet(path)
    _, pool = pool_beside(own, f"parquet:{path}")
    assert list(pool.splits["train"].inputs) == sentences(4)


def test_a_pool_without_any_label_column_will_do(own: DataConfig, tmp_path: Path) -> None:
    other = write_parquet(tmp_path / "other.parquet", utterance=sentences(4))
    assert len(pool_beside(own, f"parquet:{other}")[1].splits["train"]) == 4


def test_columns_are_looked_for_by_the_runs_names_and_then_by_themselves(tmp_path: Path) -> None:
    path = write_csv(
        tmp_path / "own.csv", "a,b,intent", [f"x {n},y {n},{n % 2}" for n in range(40)]
    )
    config = settings(f"csv:{path}", text_columns=["b"], label_column="intent")
    same = write_csv(tmp_path / "same.csv", "a,b,intent", [f"p {n},q {n},1" for n in range(4)])
    other = write_csv(tmp_path / "other.csv", "text", [f"r {n}" for n in range(4)])
    assert list(pool_beside(config, f"csv:{same}")[1].splits["train"].inputs)[1] == "q 1"
    assert list(pool_beside(config, f"csv:{other}")[1].splits["train"].inputs)[1] == "r 1"


def test_a_bad_input_is_named_or_left_out(tmp_path: Path) -> None:
    labelled_parquet(tmp_path / "own.parquet", 40)
    other = write_parquet(tmp_path / "other.parquet", text=["one", None, "three"])
    for skip in (False, True):
        config = settings(f"parquet:{tmp_path / 'own.parquet'}", skip_bad=skip)
        if not skip:
            with pytest.raises(BadInputError, match="row 1: the text is missing"):
                pool_beside(config, f"parquet:{other}")
            continue
        split = pool_beside(config, f"parquet:{other}")[1].splits["train"]
        assert list(split.inputs) == ["one", "three"]
        assert split.ids.tolist() == [0, 2]
        assert len(split.skipped) == 1


def test_the_fingerprint_is_of_content_and_rows(own: DataConfig, tmp_path: Path) -> None:
    first = labelled_parquet(tmp_path / "first.parquet", 9, "a")
    second = labelled_parquet(tmp_path / "second.parquet", 9, "b")
    found = [pool_beside(own, f"parquet:{path}")[1].fingerprint for path in (first, second, first)]
    assert found[0] == found[2] != found[1]


def test_what_cannot_be_found_is_told_in_one_line(own: DataConfig) -> None:
    with pytest.raises(DataError, match="no data set named 'digit'; did you mean 'digits'"):
        pool_beside(own, "digit")


def test_labels_can_be_left_alone_in_ones_own_data_too(tmp_path: Path) -> None:
    path = labelled_parquet(tmp_path / "own.parquet", 40)
    found = load_dataset(settings(f"parquet:{path}", labelled=False))
    assert found.classes == ()
    assert all(split.labels is None for split in found.splits.values())
    assert load_dataset(settings("digits", labelled=False)).splits["train"].labels is None
