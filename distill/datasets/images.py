"""Any image file or its bytes, as an upright 8-bit RGB image; what cannot be one is refused."""

import io
import struct
import warnings
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from distill.datasets.errors import BadInputError

SUFFIXES = frozenset(
    (
        ".jpg",
        ".jpeg",
        ".jfif",
        ".png",
        ".bmp",
        ".gif",
        ".webp",
        ".tif",
        ".tiff",
        ".ppm",
        ".pgm",
        ".pbm",
    )
)

TURNS = {  # what each orientation mark asks for
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
DAMAGE = (  # what Pillow's decoders raise on damaged bytes
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    EOFError,
    struct.error,
    Image.DecompressionBombError,
)


def open_image(content: Path | bytes, where: str) -> Image.Image:
    """Decode an image. ``BadInputError`` says where it is and what is wrong with it.

    A camera's orientation mark is applied, transparency is laid on white, 16-bit grey is scaled
    to 8 bits. Of an animation the first frame is taken. Floating-point pixels have no known
    range and are refused.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow on odd metadata; the pixels are what counts
            with Image.open(io.BytesIO(content) if isinstance(content, bytes) else content) as read:
                read.load()
                return _rgb(_upright(read))
    except FileNotFoundError as error:
        raise BadInputError(f"{where}: there is no such image") from error
    except DAMAGE as error:
        reason = "not an image" if isinstance(error, UnidentifiedImageError) else str(error)
        raise BadInputError(f"{where}: unreadable image ({reason})") from error


def _upright(image: Image.Image) -> Image.Image:
    """Turn it as the camera's mark says.

    ``ImageOps.exif_transpose`` would write the metadata anew, and fail on a field of a wrong type.
    """
    turn = TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    return image if turn is None else image.transpose(turn)


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    if image.mode == "F":
        raise ValueError("floating-point pixels: convert it to 8 bits")
    if image.mode.startswith("I"):  # 16-bit grey; convert() would clip it to white
        grey = np.asarray(image).astype(np.int64)
        return Image.fromarray((grey.clip(0, 65535) // 257).astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        with_alpha = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, with_alpha).convert("RGB")
    return image.convert("RGB")
