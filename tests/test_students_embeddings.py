"""Embeddings cut from a teacher's: what is kept of them, how large, and which are refused."""

import numpy as np
import pytest
import torch

from students import Encoder, StudentError, build_student, slice_embeddings

TOKENS, DIM = 40, 10


def teachers(dim: int = DIM) -> np.ndarray:
    """Embeddings with a mean, whose numbers vary less and less."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((TOKENS, dim)) * 0.7 ** np.arange(dim) + 5.0
    turn = np.linalg.qr(rng.standard_normal((dim, dim)))[0]
    return np.asarray(rows @ turn, dtype=np.float32)


def student(name: str) -> Encoder:
    bert = {
        "num_hidden_layers": 1, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 8,
    }  # fmt: skip
    options = {"hf/bert": bert, "hf/electra": bert | {"embedding_size": 6}}.get(name, {})
    return build_student(name, dim_out=3, modality="text", options=options, vocabulary=TOKENS)


TABLES = {
    "hf/bert": "body.network.embeddings.word_embeddings.weight",
    "hf/electra": "body.network.embeddings.word_embeddings.weight",
    "static/4": "body.embeddings.weight",
    "static/16": "body.embeddings.weight",
}


def test_the_principal_directions_are_kept_in_their_order() -> None:
    from sklearn.decomposition import PCA

    encoder, matrix = student("static/4"), teachers()
    before = encoder.get_parameter(TABLES["static/4"]).detach().clone()
    slice_embeddings(encoder, matrix)
    found = encoder.get_parameter(TABLES["static/4"]).detach().numpy()
    expected = PCA(4).fit_transform(matrix.astype("f8"))
    size = float(before.square().mean().sqrt()) / np.sqrt(np.square(expected).mean())
    for column in range(4):
        sign = np.sign(found[1:, column] @ expected[1:, column])
        np.testing.assert_allclose(
            found[1:, column], sign * size * expected[1:, column], rtol=1e-4, atol=1e-4
        )
    assert not found[0].any()  # padding


@pytest.mark.parametrize("name", sorted(TABLES))
def test_every_text_family_takes_them_at_its_own_size(name: str) -> None:
    encoder = student(name)
    table = encoder.get_parameter(TABLES[name]).detach()
    before = float(table.square().mean().sqrt())
    slice_embeddings(encoder, teachers())
    assert float(table.square().mean().sqrt()) == pytest.approx(before, rel=0.2)
    # what is kept of the tokens' inner products is as much as so many numbers can keep
    kept = table.numpy()[1:].astype("f8")
    whole = teachers().astype("f8")
    whole = (whole - whole.mean(axis=0))[1:]
    width = kept.shape[1]
    assert np.corrcoef((kept @ kept.T).ravel(), (whole @ whole.T).ravel())[0, 1] > 0.9
    if width > DIM:
        assert not kept[:, DIM:].any()
    ids = torch.tensor([[5, 6, 7]])
    assert bool(encoder.eval()({"input_ids": ids, "attention_mask": ids * 0 + 1}).isfinite().all())


def test_the_same_embeddings_give_the_same_whatever_stood_there() -> None:
    tables = []
    for seed in (0, 0):
        encoder = build_student(
            "static/4", dim_out=3, modality="text", vocabulary=TOKENS, seed=seed
        )
        slice_embeddings(encoder, teachers())
        tables.append(encoder.get_parameter(TABLES["static/4"]))
    assert torch.equal(*tables)


def test_a_teacher_of_other_tokens_is_refused_with_both_sizes() -> None:
    with pytest.raises(StudentError, match="of 39 tokens and the student reads 40: the tokenizers"):
        slice_embeddings(student("static/4"), teachers()[1:])


def test_a_student_that_reads_no_tokens_is_refused() -> None:
    pixels = build_student("timm/resnet10t", dim_out=3, modality="image", image_size=32)
    with pytest.raises(StudentError, match="has no token embeddings"):
        slice_embeddings(pixels, teachers())
