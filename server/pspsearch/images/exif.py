"""Reads the orientation of an image from its Exif block; nothing else of Exif is used."""

import struct

_PREFIX = b"Exif\0\0"
_BYTE_ORDERS = {b"II*\0": "<", b"MM\0*": ">"}
_ORIENTATION_TAG = 0x0112
_VALUE_FORMATS = {3: "H", 4: "I"}  # SHORT is what the standard asks for; some writers use LONG
_ENTRY_BYTES = 12


def read_orientation(block: bytes) -> int:
    """The orientation, from 1 to 8, in an Exif block with or without its `Exif` prefix.

    Returns 1, the image as stored, if the block is damaged or names none: bad metadata is no reason to refuse a good
    picture.
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
