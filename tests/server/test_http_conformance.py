"""The REST port is a conforming HTTP/1.1 origin server, by the sections of RFC 9110 and RFC 9112."""

from urllib.parse import urlsplit

import pytest
from http_conformance import Row, problems, rows

from serving.server import Server


@pytest.mark.parametrize("row", list(rows()), ids=str)
def test_http_as_the_rfcs_have_it(server: Server, row: Row) -> None:
    address = urlsplit(server.url)
    assert problems(row, (str(address.hostname), int(address.port or 0))) == []
