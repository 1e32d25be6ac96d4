"""Image folders: what is found, what is refused, what an unreadable image does."""

import io
import pickle
import re
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from distill.config import DataConfig
from distill.datasets import BadInputError, DataError, Dataset, load_dataset
from distill.datasets.folder import _listed
from distill.datasets.images import open_image


def picture(path: Path, grey: int = 100, size: tuple[int, int] = (6, 4)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, grey).save(path)


def flowers(root: Path, count: int = 10, classes: tuple[str, ...] = ("rose", "tulip")) -> Path:
    """Row r of a class has grey value 10 r + class, so that a mix-up shows."""
    for label, name in enumerate(classes):
        for row in range(count):
            picture(root / name / f"{row:02}.png", 10 * row + label)
    return root


def load(root: Path, **settings: object) -> Dataset:
    return load_dataset(DataConfig.model_validate({"name": f"imagefolder:{root}", **settings}))


def test_folders_of_classes_are_carved_into_three_splits(tmp_path: Path) -> None:
    found = load(flowers(tmp_path))
    assert (found.modality, found.classes, found.note) == ("image", ("rose", "tulip"), "")
    assert [len(split) for split in found.splits.values()] == [13, 3, 4]
    for split in found.splits.values():
        assert split.labels is not None
        for image, label, example in zip(split.inputs, split.labels, split.ids, strict=True):
            assert image.mode == "RGB"
            assert image.getpixel((0, 0)) == (10 * (example % 10) + label,) * 3
            assert label == example // 10


def test_split_folders_are_kept_and_their_ids_say_where_from(tmp_path: Path) -> None:
    flowers(tmp_path / "train")
    flowers(tmp_path / "val", 2)
    flowers(tmp_path / "test", 3)
    splits = load(tmp_path).splits
    assert [len(split) for split in splits.values()] == [20, 4, 6]
    assert splits["validation"].ids.tolist() == [10**12 + row for row in range(4)]
    assert splits["test"].ids.tolist() == [2 * 10**12 + row for row in range(6)]
    assert sorted(splits["train"].ids.tolist()) == list(range(20))


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    assert load(flowers(tmp_path, classes=("bus", "train"))).classes == ("bus", "train")


def test_images_deep_in_a_class_count_and_debris_does_not(tmp_path: Path) -> None:
    flowers(tmp_path)
    picture(tmp_path / "rose" / "garden" / "deep.PNG")
    for debris in ("rose/._00.png", ".cache/x.png", "__MACOSX/rose/x.png"):
        (tmp_path / debris).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / debris).write_bytes(b"debris")
    (tmp_path / "rose" / "notes.txt").write_text("no image")
    assert sum(len(split) for split in load(tmp_path).splits.values()) == 21


def test_a_link_that_leads_back_up_is_not_followed_for_ever(tmp_path: Path) -> None:
    flowers(tmp_path)
    (tmp_path / "rose" / "loop").symlink_to(tmp_path / "rose", target_is_directory=True)
    assert sum(len(split) for split in load(tmp_path).splits.values()) == 20


def test_inputs_survive_a_trip_to_a_worker_and_are_small(tmp_path: Path) -> None:
    inputs = load(flowers(tmp_path)).splits["train"].inputs
    sent = pickle.dumps(inputs)
    assert len(sent) < 1500
    again = pickle.loads(sent)
    assert [image.tobytes() for image in again] == [image.tobytes() for image in inputs]


def test_the_fingerprint_knows_the_content_and_not_the_place(tmp_path: Path) -> None:
    first = load(flowers(tmp_path / "here")).fingerprint
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    assert load(tmp_path / "there").fingerprint == first
    picture(tmp_path / "there" / "rose" / "03.png", 31)  # another grey value, the same size
    assert load(tmp_path / "there").fingerprint != first
    assert load(tmp_path / "here", limit=3).fingerprint != first


@pytest.mark.parametrize(("count", "looked_at"), [(511, 511), (512, 256), (767, 384), (1023, 341)])
def test_of_many_files_the_bytes_of_every_so_manieth_count(
    tmp_path: Path, count: int, looked_at: int
) -> None:
    """As docs/formats.md says: every (n // 256)-th from the first on, beside names and sizes."""
    (tmp_path / "rose").mkdir()
    files = [tmp_path / "rose" / f"{row:04}.png" for row in range(count)]
    for file in files:
        file.write_bytes(b"here")
    read = [row for row in range(count) if row % (count // 256) == 0]
    assert len(read) == looked_at

    def digest() -> str:
        return _listed(tmp_path, [(f"rose/{file.name}", 4) for file in files], None)[1]

    before = digest()
    for row in set(range(count)) - set(read):
        files[row].write_bytes(b"else")
    assert digest() == before
    files[read[-1]].write_bytes(b"else")
    assert digest() != before


def test_an_unreadable_image_is_named_when_it_is_read(tmp_path: Path) -> None:
    bad = flowers(tmp_path) / "rose" / "04.png"
    bad.write_bytes(b"not an image at all")
    with pytest.raises(BadInputError, match="not an image") as caught:
        [list(split.inputs) for split in load(tmp_path).splits.values()]
    assert str(bad) in str(caught.value)
    assert "--skip-bad" in str(caught.value)


def test_skip_bad_leaves_out_just_the_unreadable_and_records_them(tmp_path: Path) -> None:
    flowers(tmp_path)
    before = load(tmp_path)
    whole = (tmp_path / "rose" / "04.png").read_bytes()
    (tmp_path / "rose" / "04.png").write_bytes(whole[:-30])  # cut off in the middle of the pixels
    (tmp_path / "tulip" / "07.png").write_bytes(b"")
    found = load(tmp_path, skip_bad=True)
    skipped = [text for split in found.splits.values() for text in split.skipped]
    assert len(skipped) == 2
    assert any("04.png" in text for text in skipped)
    assert not any("--skip-bad" in text for text in skipped)  # it is given already
    for name, split in found.splits.items():
        expected = [example for example in before.splits[name].ids if example not in (4, 17)]
        assert sorted(split.ids.tolist()) == sorted(expected)
        assert len(list(split.inputs)) == len(split)


@pytest.mark.parametrize(
    ("mode", "value", "expected"),
    [
        pytest.param("L", 77, (77, 77, 77), id="grey"),
        pytest.param("I;16", 257 * 77, (77, 77, 77), id="16-bit-grey"),
        pytest.param("RGBA", (200, 0, 0, 0), (255, 255, 255), id="transparent-is-white"),
        pytest.param("RGBA", (200, 10, 5, 255), (200, 10, 5), id="opaque"),
        pytest.param("1", 1, (255, 255, 255), id="one-bit"),
    ],
)
def test_any_kind_of_pixel_becomes_8_bit_rgb(
    tmp_path: Path, mode: str, value: int | tuple[int, ...], expected: tuple[int, int, int]
) -> None:
    flowers(tmp_path)
    Image.new(mode, (5, 5), value).save(tmp_path / "rose" / "00.png")
    splits = load(tmp_path).splits.values()
    image = next(s.inputs[int(np.flatnonzero(s.ids == 0)[0])] for s in splits if 0 in s.ids)
    assert image.getpixel((2, 2)) == expected


def test_a_camera_on_its_side_is_put_upright(tmp_path: Path) -> None:
    flowers(tmp_path)
    sideways = Image.new("RGB", (8, 3))
    exif = sideways.getexif()
    exif[0x0112] = 6  # turn by 90 degrees
    sideways.save(tmp_path / "rose" / "00.png", exif=exif)
    splits = load(tmp_path).splits.values()
    image = next(s.inputs[int(np.flatnonzero(s.ids == 0)[0])] for s in splits if 0 in s.ids)
    assert image.size == (3, 8)


@pytest.mark.parametrize("mark", range(1, 9))
def test_every_orientation_mark_is_applied_as_pillow_applies_it(mark: int) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (4, 7, 3), dtype=np.uint8)
    held = marked(Image.fromarray(noise), mark)
    with Image.open(io.BytesIO(held)) as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    np.testing.assert_array_equal(np.asarray(open_image(held, "x.png")), expected)


def test_metadata_of_a_wrong_kind_keep_no_picture_from_being_turned() -> None:
    """A resolution that is text, as some cameras write it: Pillow cannot write it again."""
    fields = [(0x0112, 3, 1, b"\0\6\0\0"), (0x011A, 2, 4, b"abc\0")]
    entries = b"".join(struct.pack(">HHI", *head) + value for *head, value in fields)
    exif = b"Exif\0\0MM\0*" + struct.pack(">IH", 8, len(fields)) + entries + b"\0\0\0\0"
    held = io.BytesIO()
    Image.new("RGB", (8, 3)).save(held, "JPEG", exif=exif)
    assert open_image(held.getvalue(), "x.jpg").size == (3, 8)


def test_a_damaged_tiff_is_named_whatever_its_decoder_says() -> None:
    held = io.BytesIO()
    Image.new("RGB", (8, 3)).save(held, "TIFF")
    content = bytearray(held.getvalue())
    at = content.index(struct.pack("<HHI", 273, 4, 1))  # where the pixels begin: no longer a number
    content[at + 2] = 7
    with pytest.raises(BadInputError, match=r"x\.tif: unreadable image"):
        open_image(bytes(content), "x.tif")


def marked(image: Image.Image, mark: int) -> bytes:
    exif, held = image.getexif(), io.BytesIO()
    exif[0x0112] = mark
    image.save(held, "PNG", exif=exif)
    return held.getvalue()


def _file(root: Path) -> str:
    (root / "x.txt").write_text("x")
    return f"{root}/x.txt"


def _empty(root: Path) -> str:
    return str(root)


def _missing(root: Path) -> str:
    flowers(root / "flowers")
    return f"{root}/flower"


def _loose(root: Path) -> str:
    picture(root / "a.png")
    return str(root)


def _loose_splits(root: Path) -> str:
    picture(root / "train" / "a.png")
    picture(root / "test" / "a.png")
    return str(root)


def _empty_class(root: Path) -> str:
    (flowers(root) / "weed").mkdir()
    return str(root)


def _one_class(root: Path) -> str:
    return str(flowers(root, classes=("rose",)))


def _unseen(root: Path) -> str:
    flowers(root / "train")
    flowers(root / "test", classes=("rose", "daisy"))
    return str(root)


def _no_train(root: Path) -> str:
    flowers(root / "test")
    flowers(root / "validation")
    return str(root)


def _empty_test(root: Path) -> str:
    flowers(root / "train")
    (root / "test" / "rose").mkdir(parents=True)
    return str(root)


def _two_validations(root: Path) -> str:
    for name in ("train", "val", "dev"):
        flowers(root / name)
    return str(root)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (_file, "x.txt is a file, not a folder; the form is imagefolder:DIR"),
        (_empty, "is empty; the form is imagefolder:DIR"),
        (_missing, "has no 'flower'; did you mean 'flowers'?"),
        (_loose, "holds images but no class folders; put the images of each class into a folder"),
        (_loose_splits, "train holds images but no class folders"),
        (_empty_class, "weed holds no images"),
        (_one_class, "all of one class, 'rose'; at least two are needed"),
        (_unseen, "classes that train never shows: daisy; remove these folders or add"),
        (_no_train, "but no folder 'train'; name the training folder with data.train_split"),
        (_empty_test, "has no examples: empty"),
        (_two_validations, "has several validation folders: dev, val"),
    ],
)
def test_a_folder_that_cannot_be_used_is_refused_in_one_line(
    tmp_path: Path, make: object, words: str
) -> None:
    place = make(tmp_path)  # type: ignore[operator]
    with pytest.raises(DataError, match=re.escape(words)) as caught:
        load(Path(place))
    assert "\n" not in str(caught.value)


def test_a_named_split_folder_must_be_there(tmp_path: Path) -> None:
    flowers(tmp_path / "train")
    flowers(tmp_path / "holdout", 3)
    with pytest.raises(DataError, match=r"no test split 'hold_out'.* did you mean 'holdout'\?"):
        load(tmp_path, test_split="hold_out")
    assert len(load(tmp_path, test_split="holdout").splits["test"]) == 6


def test_columns_are_refused_for_a_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="an image folder has no columns"):
        load(flowers(tmp_path), label_column="label")
