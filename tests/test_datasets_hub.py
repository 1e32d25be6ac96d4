"""Hub names: from the local cache, or one line that says how to give files; never the network."""

import time
from pathlib import Path

import pytest

from distill.config import DataConfig
from distill.datasets import DataError, Dataset, load_dataset


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Hugging Face cache of the test's own."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    return tmp_path / "cache"


def load(name: str, **settings: object) -> Dataset:
    return load_dataset(DataConfig.model_validate({"name": name, **settings}))


def put_into_cache(cache: Path, config: str = "plain", hash_: str = "0123abcd") -> None:
    """What ``datasets`` leaves behind after fetching ``someone/birds`` from the hub."""
    import datasets

    home = cache / "someone___birds" / config / "0.0.0" / hash_
    home.mkdir(parents=True)
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])}
    )
    infos = datasets.SplitDict(dataset_name="birds")
    for name, count in {"train": 20, "validation_matched": 6, "unsupervised": 4}.items():
        rows = {"text": [f"{name} {row}" for row in range(count)], "label": [0, 1] * (count // 2)}
        writer = datasets.arrow_writer.ArrowWriter(
            features=features, path=str(home / f"birds-{name}.arrow")
        )
        with writer:
            writer.write_table(datasets.Dataset.from_dict(rows, features=features).data.table)
            writer.finalize()
        infos[name] = datasets.SplitInfo(name=name, num_examples=count, dataset_name="birds")
    info = datasets.DatasetInfo(
        features=features,
        splits=infos,
        config_name=config,
        dataset_name="birds",
        builder_name="parquet",
        version="0.0.0",
    )
    info.write_to_directory(str(home))


@pytest.mark.parametrize("name", ["someone/birds", "hub:someone/birds:plain"])
def test_a_cached_name_loads_offline(cache: Path, name: str) -> None:
    put_into_cache(cache)
    found = load(name)
    assert found.classes == ("no", "yes")
    assert [len(split) for split in found.splits.values()] == [16, 6, 4]
    assert found.splits["validation"].inputs[0] == "validation_matched 0"
    assert found.splits["validation"].inputs.where(1).endswith(" validation_matched: row 1")


def test_the_revision_and_the_split_are_in_the_fingerprint(cache: Path) -> None:
    put_into_cache(cache)
    first = load("someone/birds").fingerprint
    assert load("someone/birds").fingerprint == first
    assert load("someone/birds", validation_split="unsupervised").fingerprint != first


def test_a_split_that_is_not_there_is_an_error_with_the_names(cache: Path) -> None:
    put_into_cache(cache)
    with pytest.raises(DataError, match=r"no test split 'unsupervized'.* mean 'unsupervised'\?"):
        load("someone/birds", test_split="unsupervized")


def test_another_configuration_is_not_taken_instead(cache: Path) -> None:
    put_into_cache(cache)
    with pytest.raises(DataError, match="someone/birds") as caught:
        load("someone/birds:fancy")
    assert "\n" not in str(caught.value)


def test_a_name_that_is_nowhere_says_how_to_give_files_and_fast() -> None:
    started = time.perf_counter()
    with pytest.raises(DataError, match=r"nor in the local cache .* give files instead: parquet:"):
        load("nobody/nothing-of-the-kind")
    assert time.perf_counter() - started < 10  # no retries; the import of the library included


def test_a_hub_that_does_not_answer_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # nobody listens there
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    started = time.perf_counter()
    with pytest.raises(DataError, match="nor in the local cache"):
        load("nobody/nothing-of-the-kind")
    assert time.perf_counter() - started < 10  # its client alone retries for 25 seconds
    assert (constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE) == (False, False)


def test_a_local_folder_is_not_taken_for_a_hub_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my" / "flowers").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="say imagefolder:my/flowers"):
        load("my/flowers")
