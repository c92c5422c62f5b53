"""The orientation of an image, out of its Exif block: all that is wanted of Exif here."""

import struct

_PREFIX = b"Exif\0\0"
_BYTE_ORDERS = {b"II*\0": "<", b"MM\0*": ">"}
_ORIENTATION_TAG = 0x0112
_VALUE_FORMATS = {3: "H", 4: "I"}  # SHORT is what the standard asks for; some writers use LONG
_ENTRY_BYTES = 12


def read_orientation(block: bytes) -> int:
    """The orientation 1 to 8 that an Exif block names, with or without its `Exif` prefix.

    1, the image as it is stored, where the block is damaged or names none: a bad note on a good picture is no
    reason to refuse the picture.
    """
    tiff = block.removeprefix(_PREFIX)
    order = _BYTE_ORDERS.get(tiff[:4])
    if order is None:
        return 1
    try:
        (directory,) = struct.unpack_from(order + "I", tiff, 4)
        (count,) = struct.unpack_from(order + "H", tiff, directory)
        for entry in range(directory + 2, directory + 2 + count * _ENTRY_BYTES, _ENTRY_BYTES):
            tag, kind = struct.unpack_from(order + "HH", tiff, entry)
            if tag == _ORIENTATION_TAG:
                (value,) = struct.unpack_from(order + _VALUE_FORMATS[kind], tiff, entry + 8)
                return value if 1 <= value <= 8 else 1
    except (struct.error, KeyError):
        pass
    return 1
