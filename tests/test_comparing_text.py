"""Text rivals without a network: small corpora whose answers are known, and refusals."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distill.comparing.text import (
    NEVER,
    STATIC_DEFAULTS,
    TFIDF_DEFAULTS,
    plain_texts,
    static_model,
    static_regression,
    static_vectors,
    tfidf,
)
from distill.errors import StageError

WORDS = (("cat", "purr", "mouse"), ("dog", "bark", "bone"), ("bird", "sing", "wing"))


def corpus(rows: int, seed: int) -> tuple[list[str], np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.arange(rows) % 3
    filler = ("the", "a", "sat", "ran", "there")
    texts = [
        " ".join(rng.permutation([*rng.choice(WORDS[label], 2), *rng.choice(filler, 3)]))
        for label in labels
    ]
    return texts, labels.astype(np.int64)


TRAIN, LABELS = corpus(60, 0)
TEST, TRUTH = corpus(30, 1)


def test_words_tell_classes_apart() -> None:
    found = tfidf(TRAIN, LABELS, classes=3, settings=TFIDF_DEFAULTS)
    logits = found.logits(TEST)
    assert logits.shape == (30, 3)
    assert logits.dtype == np.float32
    np.testing.assert_array_equal(logits.argmax(axis=1), TRUTH)
    np.testing.assert_allclose(np.exp(logits).sum(axis=1), 1.0, rtol=1e-5)


def test_a_class_without_texts_is_never_predicted_and_numbers_stay_class_numbers() -> None:
    labels = np.where(LABELS == 2, 3, LABELS)  # class 2 of 4 has none
    logits = tfidf(TRAIN, labels, classes=4, settings=TFIDF_DEFAULTS).logits(TEST)
    assert (logits[:, 2] == NEVER).all()
    np.testing.assert_array_equal(logits.argmax(axis=1), np.where(TRUTH == 2, 3, TRUTH))


def test_two_classes_work_too() -> None:
    two = LABELS < 2
    texts = [text for text, kept in zip(TRAIN, two, strict=True) if kept]
    found = tfidf(texts, LABELS[two], classes=2, settings=TFIDF_DEFAULTS)
    asked = [text for text, label in zip(TEST, TRUTH, strict=True) if label < 2]
    np.testing.assert_array_equal(found.logits(asked).argmax(axis=1), TRUTH[TRUTH < 2])


def test_what_counted_words_take_by_hand() -> None:
    # words aa bb cc dd; pairs "aa bb", "cc dd": 6 columns, 3 entries a text, 2 classes (1 row)
    found = tfidf(
        ["aa bb", "cc dd"], np.array([0, 1]), classes=2,
        settings={"inverse_penalty": 1.0, "words": 2},
    )  # fmt: skip
    assert found.parameters == 6 + 6 + 1
    assert found.multiply_adds == 3 * (1 + 1)
    fewer = tfidf(
        ["aa bb", "cc dd"], np.array([0, 1]), classes=2,
        settings={"inverse_penalty": 1.0, "words": 1},
    )  # fmt: skip
    assert fewer.parameters == 4 + 4 + 1


def test_a_weaker_penalty_is_surer() -> None:
    sure, unsure = (
        tfidf(TRAIN, LABELS, classes=3, settings={"inverse_penalty": c, "words": 1}).logits(TEST)
        for c in (100.0, 0.1)
    )
    assert sure.max(axis=1).mean() > unsure.max(axis=1).mean() + 0.1


def test_a_word_said_four_times_counts_as_one_and_log_four() -> None:
    found = tfidf(
        ["aa bb", "cc dd"], np.array([0, 1]), classes=2,
        settings={"inverse_penalty": 1.0, "words": 1},
    )  # fmt: skip
    once, more = found.logits(["cc", "aa cc cc cc cc"])
    # by symmetry the logits' difference goes with (weight of cc - weight of aa) / length
    weight = 1 + np.log(4)
    assert (more[1] - more[0]) / (once[1] - once[0]) == pytest.approx(
        (weight - 1) / np.hypot(weight, 1), rel=1e-4
    )


@pytest.mark.parametrize(("texts", "labels"), [(["", "!"], [0, 1]), (["aa", "bb"], [1, 1])])
def test_texts_that_teach_nothing_are_refused(texts: list[str], labels: list[int]) -> None:
    with pytest.raises(StageError, match="cannot be learned from"):
        tfidf(texts, np.array(labels), classes=2, settings=TFIDF_DEFAULTS)


def test_pairs_are_read_one_after_the_other() -> None:
    assert plain_texts(["one", "two"]) == ["one", "two"]
    assert plain_texts([("one", "two")]) == ["one two"]


def test_without_the_library_it_is_said_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "model2vec", None)
    with pytest.raises(StageError, match="pip install model2vec skeletoken") as refusal:
        static_model("anything", tmp_path / "static")
    assert "\n" not in str(refusal.value)


class Tokens:
    """A stand-in for model2vec's model: a vector for each of our words."""

    dim = 2

    def __init__(self) -> None:
        self.embedding = np.zeros((9, 2), np.float32)

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        return [[0] * len(text.split()) for text in texts]

    def encode(self, texts: Sequence[str], *, use_multiprocessing: bool) -> np.ndarray:
        assert not use_multiprocessing  # processes of its own would outlive a kill
        angles = [
            max(place for place, words in enumerate(WORDS) if any(w in text for w in words))
            for text in texts
        ]
        return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def test_token_vectors_are_put_under_a_head() -> None:
    model: Any = Tokens()
    assert static_vectors(model, ["cat"]).dtype == np.float32
    found = static_regression(model, TRAIN, LABELS, classes=3, settings=STATIC_DEFAULTS)
    assert found.logits(TEST).shape == (30, 3)
    assert np.mean(found.logits(TEST).argmax(axis=1) == TRUTH) > 0.95
    assert found.parameters == 9 * 2 + 3 * 2 + 3
    assert found.multiply_adds == 5 * 2 + 3 * 2  # five tokens a text
    strong = static_regression(model, TRAIN, LABELS, classes=3, settings={"l2": 10.0})
    assert np.ptp(strong.logits(TEST)) < np.ptp(found.logits(TEST))


def tiny_bert(folder: Path) -> Path:
    from transformers import BertConfig, BertModel, BertTokenizerFast

    words = sorted({word for text in TRAIN for word in text.split()})
    folder.mkdir()
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]
    (folder / "vocab.txt").write_text("\n".join(vocabulary))
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(vocabulary), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=16,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    return folder


def test_a_network_becomes_token_vectors_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("model2vec.distill")
    folder = tmp_path / "static"
    network = str(tiny_bert(tmp_path / "bert"))
    capfd.readouterr()
    model = static_model(network, folder)
    assert "%|" not in capfd.readouterr().err
    rows = static_vectors(model, TRAIN)
    assert rows.shape[0] == 60
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1.0, rtol=1e-3)
    import model2vec.distill

    monkeypatch.setattr(model2vec.distill, "distill", lambda *_, **__: pytest.fail("made again"))
    np.testing.assert_array_equal(static_vectors(static_model(network, folder), TRAIN), rows)


def test_a_network_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    pytest.importorskip("model2vec.distill")
    with pytest.raises(StageError, match="cannot read") as refusal:
        static_model(str(tmp_path / "nowhere"), tmp_path / "static")
    assert "nowhere" in str(refusal.value)
    assert not (tmp_path / "static").exists()
