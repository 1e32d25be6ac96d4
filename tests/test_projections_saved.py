"""Files of maps and moments: the same map comes back, whole or not at all, or one line says why."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from projections import (
    KINDS,
    PCAProjection,
    Projection,
    ProjectionError,
    UnknownKindError,
    fit_projections,
    gather_moments,
    learn_projection,
    load_moments,
    load_projection,
    make_projection,
    ridge_head,
    save_moments,
    save_projection,
    saved,
)

DIM, CLASSES, ROWS = 12, 4, 200
RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, CLASSES, ROWS)
FEATURES = (RNG.standard_normal((ROWS, DIM)) + 2 * np.eye(CLASSES, DIM)[LABELS]).astype(np.float32)
MOMENTS = gather_moments([(FEATURES, LABELS)], classes=CLASSES)
EVERY_KIND = pytest.mark.parametrize("kind", sorted(KINDS))


def made(kind: str) -> Projection:
    """A map to 5 of 12 dimensions, of a seed of its own where it has one."""
    if not KINDS[kind].needs_data:
        return make_projection(kind, dim_in=DIM, dim_out=5, seed=2**65 + 1)
    if kind == "learned":
        return learn_projection(
            FEATURES, LABELS, classes=CLASSES, dim_out=5, head=None, moments=MOMENTS, seed=3,
            l2=0.01, max_iterations=7,
        )  # fmt: skip
    weight, bias = ridge_head(MOMENTS, 0.1)
    logits = [FEATURES @ weight.T + bias]
    return fit_projections(kind, MOMENTS, [5], head=weight, logits=logits)[0]


def card_of(path: Path) -> dict[str, Any]:
    with safe_open(path, framework="numpy") as file:
        metadata = file.metadata()
    assert list(metadata) == [saved.KEY]
    card: dict[str, Any] = json.loads(metadata[saved.KEY])
    return card


@EVERY_KIND
def test_what_is_read_is_what_was_written(tmp_path: Path, kind: str) -> None:
    projection, path = made(kind), tmp_path / "deeper" / "map.safetensors"
    save_projection(path, projection)
    found = load_projection(path)
    assert type(found) is type(projection)
    assert found.describe() == projection.describe() == card_of(path)["said"]
    np.testing.assert_array_equal(found.matrix, projection.matrix)
    np.testing.assert_array_equal(found.transform(FEATURES), projection.transform(FEATURES))
    assert [entry.name for entry in path.parent.iterdir()] == ["map.safetensors"]


@EVERY_KIND
def test_a_map_that_can_be_drawn_again_is_no_more_than_its_card(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "map.safetensors"
    save_projection(path, made(kind))
    with safe_open(path, framework="numpy") as file:
        held = sorted(file.keys())
    assert held == (["matrix", "mean", "strengths"] if KINDS[kind].needs_data else [])


@EVERY_KIND
def test_equal_maps_give_equal_bytes(tmp_path: Path, kind: str) -> None:
    for name in ("one", "other"):
        save_projection(tmp_path / name, made(kind))
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()


def test_settings_and_widths_come_back(tmp_path: Path) -> None:
    save_projection(tmp_path / "learned", made("learned"))
    assert load_projection(tmp_path / "learned").get_params() == {  # type: ignore[attr-defined]
        "n_components": 5, "seed": 3, "l2": 0.01, "max_iterations": 7,
    }  # fmt: skip
    save_projection(tmp_path / "pca", PCAProjection(5, whiten=True).fit(FEATURES))
    found = load_projection(tmp_path / "pca")
    assert isinstance(found, PCAProjection)
    assert found.whiten
    np.testing.assert_array_equal(found.narrowed(2).matrix, found.matrix[:, :2])
    with pytest.raises(ProjectionError, match="does not hold its moments: fit it anew"):
        found.partial_fit(FEATURES)


def test_moments_come_back(tmp_path: Path) -> None:
    path = tmp_path / "moments.safetensors"
    save_moments(path, MOMENTS)
    found = load_moments(path)
    for name in ("counts", "means", "within"):
        np.testing.assert_array_equal(getattr(found, name), getattr(MOMENTS, name))
    save_moments(tmp_path / "again", found)
    assert (tmp_path / "again").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("kind", ["gaussian", "pca", "moments"])
def test_no_byte_can_change_unnoticed(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "file"
    if kind == "moments":
        save_moments(path, MOMENTS)
    else:
        save_projection(path, made(kind))
    sound = path.read_bytes()
    load = load_moments if kind == "moments" else load_projection
    load(path)
    for at in [*range(0, min(len(sound), 400), 7), len(sound) - 1, len(sound) // 2]:
        path.write_bytes(sound[:at] + bytes([sound[at] ^ 1]) + sound[at + 1 :])
        with pytest.raises(ProjectionError) as caught:
            load(path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("length", [0, 5, 300, -1])
def test_a_file_cut_short_is_refused(tmp_path: Path, length: int) -> None:
    path = tmp_path / "file"
    save_projection(path, made("pca"))
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ProjectionError, match=r"file cannot be read, make it again: "):
        load_projection(path)


def test_another_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with pytest.raises(
        ProjectionError, match=r"there is no file of projection at .*file; make it first"
    ):
        load_projection(path)
    save_file({"matrix": np.ones(3)}, path)
    with pytest.raises(ProjectionError, match="file holds no projection of this program"):
        load_projection(path)
    save_moments(path, MOMENTS)
    with pytest.raises(ProjectionError, match="file holds no projection of this program"):
        load_projection(path)
    save_projection(path, made("pca"))
    with pytest.raises(ProjectionError, match="file holds no moments of this program"):
        load_moments(path)
    path.write_text("not safetensors at all")
    with pytest.raises(ProjectionError, match="file cannot be read, make it again"):
        load_moments(path)


def test_a_newer_format_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saved, "FORMAT", 2)
    save_moments(tmp_path / "file", MOMENTS)
    monkeypatch.undo()
    with pytest.raises(ProjectionError, match=r"file is of format 2, not 1; make it again"):
        load_moments(tmp_path / "file")


def test_a_seed_that_draws_another_map_now_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    projection = made("gaussian")
    drawn = type(projection).draw  # type: ignore[attr-defined]
    monkeypatch.setattr(type(projection), "draw", staticmethod(lambda *a: -drawn(*a)))
    save_projection(tmp_path / "file", made("gaussian"))
    monkeypatch.undo()
    with pytest.raises(
        ProjectionError, match=r"the gaussian map in .* is another one in this version"
    ):
        load_projection(tmp_path / "file")


def test_a_map_of_no_known_kind_is_not_written(tmp_path: Path) -> None:
    class Stranger(PCAProjection):  # type: ignore[misc]
        kind = "stranger"

    with pytest.raises(UnknownKindError, match="no projection of kind 'stranger'"):
        save_projection(tmp_path / "file", Stranger(2).fit(FEATURES))
    assert not list(tmp_path.iterdir())


def test_what_was_there_stays_when_writing_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    save_moments(path, MOMENTS)
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        save_moments(path, MOMENTS.merge(MOMENTS))
    assert load_moments(path).rows == ROWS
