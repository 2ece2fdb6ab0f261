"""TFRecord files, read without TensorFlow: warm-up requests and golden answers are kept in one."""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from serving.protos import ServingApiMissing

_MASK_DELTA = 0xA282EAD8
_HEADER = struct.Struct("<QI")
_FOOTER = struct.Struct("<I")


class RecordError(RuntimeError):
    """The file is not a TFRecord file, or is damaged."""

    exit_code = 1


def crc32c_library() -> Any:
    """The library that computes checksums; only those who read records need it.

    Raises:
        ServingApiMissing: The extra `serve` is not installed.
    """
    try:
        import google_crc32c
    except ModuleNotFoundError as error:
        raise ServingApiMissing(
            "the records of an export are read with google-crc32c, which is not installed; "
            "pip install 'sequence-zoo[serve]'"
        ) from error
    return google_crc32c


def masked_crc32c(data: bytes) -> int:
    """The CRC-32C of `data` as TFRecord files hold it: rotated by 15 bits, with a constant added.

    Example:
    >>> hex(masked_crc32c(b"123456789"))
    '0xc78ab0e5'
    """
    # Not a loop in Python, which at 6 MB/s would hold up requests while a version is loaded.
    crc: int = crc32c_library().value(data)
    return ((crc >> 15 | crc << 17) + _MASK_DELTA) & 0xFFFFFFFF


def read_records(path: str | Path) -> Iterator[bytes]:
    """The records of an uncompressed TFRecord file, each checked by its checksum, one in memory at a time.

    Raises:
        RecordError: A record is cut short or its checksum is wrong; the message says which record, and where.
        OSError: The file cannot be read.
    """
    path = Path(path)
    left = path.stat().st_size
    with path.open("rb") as file:
        number = 0
        while header := file.read(_HEADER.size):
            where = f"record {number} of {path} (byte {file.tell() - len(header)})"
            if len(header) < _HEADER.size:
                raise RecordError(
                    f"{where} is cut short: {len(header)} of {_HEADER.size} bytes of its header are there"
                )
            length, length_crc = _HEADER.unpack(header)
            if masked_crc32c(header[:8]) != length_crc:
                raise RecordError(f"the length of {where} has a wrong checksum; is this an uncompressed TFRecord file?")
            left -= _HEADER.size
            if left < length + _FOOTER.size:
                raise RecordError(f"{where} is cut short: it has {length + _FOOTER.size} bytes, {left} are there")
            left -= length + _FOOTER.size
            data = file.read(length)
            if masked_crc32c(data) != _FOOTER.unpack(file.read(_FOOTER.size))[0]:
                raise RecordError(f"{where} has a wrong checksum: the file is damaged; export the model again")
            yield data
            number += 1
