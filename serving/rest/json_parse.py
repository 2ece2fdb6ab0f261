"""Parses the JSON of a REST request with the leniency and the messages of TensorFlow Serving's parser.

TensorFlow Serving parses with RapidJSON: NaN and Infinity are numbers, what follows the document is ignored, strings
need not be UTF-8, and a number that no double holds is an error. orjson reads plain JSON, five times as fast;
what it refuses is read by Python's parser, which says why or lets it pass.
"""

import json
import re
from typing import Any

import orjson

from serving.errors import ServingError, invalid

LONGEST_ECHO = 256

# Only a number with such an exponent overflows a double, unless it has hundreds of digits; looking for one first keeps
# the parser's fast path. Two patterns, because each starts with a letter that the search can jump to.
_MAY_OVERFLOW = (re.compile(r"e\+?\d{3}"), re.compile(r"E\+?\d{3}"))
_CONTROL_OR_OPEN = re.compile(r'"(?:[^"\\]|\\.)*"|[\[{\]}]', re.DOTALL)
_NOT_SPACE = re.compile(r"[^ \t\r\n]")

# What Python's parser says, and what RapidJSON says.
_MESSAGES = {
    "Expecting value": "Invalid value.",
    "Expecting property name": "Missing a name for object member.",
    "Illegal trailing comma before end of object": "Missing a name for object member.",
    "Illegal trailing comma before end of array": "Invalid value.",
    "Expecting ':'": "Missing a colon after a name of object member.",
    "Unterminated string": "Missing a closing quotation mark in string.",
    "Invalid control character": "Invalid encoding in string.",
    "Invalid \\escape": "Invalid escape character in string.",
    "Invalid \\uXXXX escape": "Incorrect hex digit after \\u escape in string.",
}


def parse_object(body: bytes) -> dict[str, Any]:
    """Parse a request body, which must be one JSON object.

    Bytes that are not UTF-8 stay in strings as surrogate escapes.

    Raises:
        ServingError: INVALID_ARGUMENT with TensorFlow Serving's message.

    Example:
    >>> parse_object(b'{"inputs": [1, NaN]} and more')
    {'inputs': [1, nan]}
    """
    if not body:
        raise invalid("JSON Parse error: The document is empty")
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        value = _lenient(body)
    if not isinstance(value, dict):
        raise format_error(value, "Is not object")
    return value


def _lenient(body: bytes) -> Any:
    """The value that RapidJSON would read from a body that is not plain JSON."""
    text = body.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")
    start = _NOT_SPACE.search(text)
    if start is None:
        raise invalid(f"JSON Parse error: The document is empty. at offset: {len(body)}")
    decoder = _STRICT if any(pattern.search(text) for pattern in _MAY_OVERFLOW) else _PLAIN
    try:
        return decoder.raw_decode(text, start.start())[0]
    except json.JSONDecodeError as error:
        raise _parse_error(text, error) from error
    except (ValueError, OverflowError) as error:
        # Python refuses to read an integer of thousands of digits.
        raise invalid(f"JSON Parse error: Number too big to be stored in double. at offset: {len(body)}") from error
    except RecursionError as error:
        raise invalid("JSON Parse error: the document is nested too deeply; send tensors as plain lists") from error


def format_error(value: object, complaint: str) -> ServingError:
    """The error for a JSON value that is not formatted as it must be."""
    return invalid(f"JSON Value: {echo(value)} {complaint}")


def echo(value: object) -> str:
    r"""A JSON value for a message, cut to 256 characters.

    Example:
    >>> echo([1])
    '[\n    1\n]'
    """
    written = ""
    try:
        for part in json.JSONEncoder(indent=4).iterencode(value):
            written += part
            if len(written) > LONGEST_ECHO:
                break
    except RecursionError:
        written += "..."
    return written[:LONGEST_ECHO]


def _finite(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise OverflowError(text[:20])
    return value


_PLAIN = json.JSONDecoder()
_STRICT = json.JSONDecoder(parse_float=_finite)


def _parse_error(text: str, error: json.JSONDecodeError) -> ServingError:
    message = next((ours for theirs, ours in _MESSAGES.items() if error.msg.startswith(theirs)), None)
    if message is None:  # "Expecting ',' delimiter" is the one message that RapidJSON splits in two
        message = (
            "Missing a comma or ] after an array element."
            if _innermost(text[: error.pos]) == "["
            else "Missing a comma or } after an object member."
        )
    offset = len(text[: error.pos].encode("utf-8", "surrogateescape"))
    return invalid(f"JSON Parse error: {message} at offset: {offset}")


def _innermost(text: str) -> str:
    """The bracket that is open at the end of `text`."""
    opened: list[str] = []
    for match in _CONTROL_OR_OPEN.finditer(text):
        if match[0] in "[{":
            opened.append(match[0])
        elif match[0] in "]}" and opened:
            opened.pop()
    return opened[-1] if opened else "{"
