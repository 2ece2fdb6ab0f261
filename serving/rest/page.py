"""The page that the local server shows at `/`: one HTML document that needs nothing but the REST API beside it."""

import base64
import functools
import hashlib
import json
from collections.abc import Sequence
from importlib import resources

_SCRIPTS = ("requests.js", "sequences.js", "drawing.js", "page.js")


def page(names: Sequence[str]) -> bytes:
    """The page for these models.

    Args:
        names: The models that are loaded: TensorFlow Serving's REST API has no list of them.

    Returns:
        HTML in UTF-8. It loads nothing from elsewhere, and its policy lets no script run but its own.

    Example:
    >>> b'["digits"]' in page(["digits"])
    True
    >>> b"</script><b>" in page(["</script><b>"])
    False
    """
    listed = json.dumps(list(names))
    for symbol in "<>&":  # nothing in a name may end the element that it stands in
        listed = listed.replace(symbol, f"\\u{ord(symbol):04x}")
    return _document().replace("<!-- names -->", listed).encode()


@functools.cache
def _document() -> str:
    folder = resources.files("serving") / "web"
    style = (folder / "style.css").read_text("utf-8")
    script = "\n".join((folder / name).read_text("utf-8") for name in _SCRIPTS)
    policy = (
        f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    document = (folder / "page.html").read_text("utf-8")
    for place, content in (("policy", policy), ("style", style), ("script", script)):
        document = document.replace(f"<!-- {place} -->", content)
    return document


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
