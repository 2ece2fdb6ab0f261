"""What RFC 9110 and RFC 9112 ask of an origin server, a row for each sentence that a client can see kept or broken."""

import gzip
import json
import socket
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field

from rest_calls import ROW
from waiting import PATIENCE

MODEL = "/v1/models/digits"
PREDICT = f"{MODEL}:predict"
BODY = json.dumps({"inputs": [ROW]}).encode()
GET = f"GET {MODEL} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
CLOSES, STAYS = "closes", "stays"


@dataclass(frozen=True)
class Answer:
    """One response: its status, its fields by lower-case name, its content."""

    status: int
    fields: dict[str, str]
    content: bytes


class Peer:
    """A connection on which every byte is the test's own."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._socket = socket.create_connection(address, timeout=PATIENCE)
        self._file = self._socket.makefile("rb")

    def __enter__(self) -> "Peer":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._socket.close()

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def end(self) -> None:
        """Send nothing more; the answer can still be read."""
        self._socket.shutdown(socket.SHUT_WR)

    def read(self, *, of_head: bool = False) -> Answer | None:
        """The next response; None where the server has closed."""
        line = self._line()
        if line is None:
            return None
        status = int(line.split()[1])
        fields: dict[str, str] = {}
        while line := self._line():
            name, _, value = line.partition(":")
            fields[name.lower()] = (
                f"{fields[name.lower()]}, {value.strip()}" if name.lower() in fields else value.strip()
            )
        if of_head or status < 200 or status in (204, 304):
            return Answer(status, fields, b"")
        if fields.get("transfer-encoding") == "chunked":
            content = b""
            while size := int((self._line() or "0").partition(";")[0], 16):
                content += self._file.read(size)
                self._line()
            self._line()
            return Answer(status, fields, content)
        length = fields.get("content-length")
        return Answer(status, fields, self._file.read(None if length is None else int(length)))

    def _line(self) -> str | None:
        try:
            line = self._file.readline()
        except ConnectionError:  # closed with bytes of ours unread
            return None
        return line.decode("latin-1").rstrip("\r\n") if line else None

    def has_closed(self) -> bool:
        try:
            return self._file.read(1) == b""
        except ConnectionError:
            return True

    def answers_again(self) -> bool:
        try:
            self.send(GET)
            answer = self.read()
        except ConnectionError:
            return False
        return answer is not None and answer.status == 200


@dataclass(frozen=True)
class Row:
    """A message, and what must come of it.

    Attributes:
        section: Of RFC 9110 or 9112.
        says: What the section says, in short.
        sent: The message.
        statuses: What the responses may be, in order: one status or several for each.
        after: Whether the connection must close or must answer another request; None where both are right.
        fields: Fields of the last response that must be so.
        contains: What the content of the last response must contain.
        of_head: Whether it has no content because it answers HEAD.
        ended: Whether the client says that nothing more follows.
        then: What the client sends once it has the first response.
    """

    section: str
    says: str
    sent: bytes
    statuses: tuple[int | tuple[int, ...], ...]
    after: str | None = None
    fields: dict[str, str] = field(default_factory=dict)
    contains: str = ""
    of_head: bool = False
    ended: bool = False
    then: bytes = b""

    def __str__(self) -> str:
        return f"{self.section}: {self.says}"


def request(
    *lines: str | bytes, target: str | bytes = MODEL, method: str = "GET", version: str = "1.1", body: bytes = b""
) -> bytes:
    """A request whose Host is x, unless a line is another Host."""
    encoded = [line.encode("latin-1") if isinstance(line, str) else line for line in lines]
    if version != "1.0" and not any(line.lower().startswith((b"host", b"-")) for line in encoded):
        encoded.insert(0, b"Host: x")
    start = (
        method.encode() + b" " + (target.encode() if isinstance(target, str) else target) + f" HTTP/{version}".encode()
    )
    return b"\r\n".join([start, *(line for line in encoded if line != b"-"), b"", body])


def post(*lines: str | bytes, body: bytes = BODY, length: bool = True, version: str = "1.1") -> bytes:
    """A predict request with the length of its body."""
    framing = (f"Content-Length: {len(body)}",) if length else ()
    return request(*framing, *lines, target=PREDICT, method="POST", body=body, version=version)


def chunked(data: bytes, *lines: str) -> bytes:
    """A predict request whose content is `data`, which is chunked already."""
    return post("Transfer-Encoding: chunked", *lines, body=data, length=False)


WHOLE = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
HALF = len(BODY) // 2
PARTS = b"%X\r\n%b\r\n%x\r\n%b\r\n0\r\n" % (HALF, BODY[:HALF], len(BODY) - HALF, BODY[HALF:])


def rows() -> Iterable[Row]:
    """The table."""
    yield from _messages()
    yield from _targets()
    yield from _fields()
    yield from _framing()
    yield from _chunks()
    yield from _persistence()
    yield from _semantics()
    yield from _codings()
    yield from _limits()


def _messages() -> Iterable[Row]:
    yield Row("9112 2.2", "an empty line before the request line is ignored", b"\r\n" + GET, (200,), STAYS)
    yield Row("9112 2.2", "a line may end with LF alone, or is refused", GET.replace(b"\r\n", b"\n"), ((200, 400),))
    yield Row("9112 2.2", "a CR alone in the request line", GET.replace(b" HTTP", b"\r HTTP"), (400,), CLOSES)
    yield Row("9112 2.2", "a CR alone in a field", request("a: b\rc"), (400,), CLOSES)
    yield Row("9112 2.2", "white space before the first field", request(" a: b", "Host: x"), (400,), CLOSES)
    yield Row("9112 2.2", "no HTTP at all", b"nonsense\r\n\r\n", (400,), CLOSES)
    yield Row(
        "9112 2.2", "TLS on a port without it", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", (400,), CLOSES
    )
    yield Row("9112 2.3", "a higher minor version is served", request(version="1.2"), (200,))
    yield Row("9112 2.3", "the version is written in capitals", GET.replace(b"HTTP/", b"http/"), (400,), CLOSES)
    yield Row("9110 2.5", "another major version", request(version="9.9"), (505,), CLOSES)
    yield Row("9110 2.5", "HTTP/2 without its preface", request(version="2.0"), (505,), CLOSES)
    yield Row("9112 3", "two spaces in the request line", GET.replace(b" /", b"  /"), (400,), CLOSES)
    yield Row("9112 3", "white space in the target", request(target="/v1/models/a b"), (400,), CLOSES)
    yield Row("9112 3", "no target", b"GET HTTP/1.1\r\nHost: x\r\n\r\n", (400,), CLOSES)
    yield Row("9112 3", "a target of 8000 bytes is read", request(target="/" + "a" * 7990), (404,), STAYS)
    yield Row("9112 3", "a target that is too long", request(target="/" + "a" * 70_000), (414,), CLOSES)


def _targets() -> Iterable[Row]:
    yield Row("9112 3.2", "a request without Host", request("-"), (400,), CLOSES)
    yield Row("9112 3.2", "HTTP/1.0 needs no Host", request(version="1.0"), (200,), CLOSES)
    yield Row("9112 3.2", "two Hosts", request("Host: x", "Host: x"), (400,), CLOSES)
    yield Row("9112 3.2", "an empty Host", request("Host:"), (200,), STAYS)
    yield Row("9112 3.2", "a Host with a port", request("Host: [::1]:8501"), (200,), STAYS)
    for host in ("a b", "x/y", "x@y", "x:port"):
        yield Row("9112 3.2", f"the Host {host}", request(f"Host: {host}"), (400,), CLOSES)
    yield Row("9112 3.2.1", "a query is not part of the path", request(target=f"{MODEL}?a=b"), (200,), STAYS)
    yield Row("9112 3.2.2", "absolute form", request(target=f"http://x{MODEL}"), (200,), STAYS)
    yield Row("9112 3.2.2", "absolute form, any capitals", request(target=f"HTTP://x:80{MODEL}"), (200,), STAYS)
    yield Row(
        "9112 3.2.2", "absolute form beside another Host", request("Host: y", target=f"http://x{MODEL}"), (200,), STAYS
    )
    yield Row("9112 3.2.2", "absolute form without a path", request(target="http://x"), (200,), STAYS)
    yield Row("9112 3.2.2", "absolute form needs a Host too", request("-", target=f"http://x{MODEL}"), (400,), CLOSES)
    yield Row("9110 4.2.1", "absolute form without a host", request(target=f"http://{MODEL}"), (400,))
    yield Row("9112 3.2.2", "absolute form of another scheme", request(target=f"ftp://x{MODEL}"), ((400, 404, 421),))
    yield Row(
        "9112 3.2.3",
        "CONNECT is not for an origin server",
        request(method="CONNECT", target="x:80"),
        ((400, 405, 501),),
    )
    yield Row("9112 3.2.3", "authority form without CONNECT", request(target="x:80"), (400,))
    yield Row(
        "9112 3.2.4", "OPTIONS of the server as a whole", request(method="OPTIONS", target="*"), ((200, 204),), STAYS
    )
    yield Row("9112 3.2.4", "asterisk form without OPTIONS", request(target="*"), (400,))
    yield Row("9112 3.2", "a target that is neither", request(target="v1/models/digits"), (400,))
    yield Row(
        "9110 4.2.3", "percent-encoded letters are those letters", request(target="/v1/models/%64igits"), (200,), STAYS
    )
    for name in ("modèle", "模型"):
        for shown, target in (("percent-encoded", "".join(f"%{byte:02x}" for byte in name.encode())), ("raw", name)):
            where = f"/v1/models/{target}"
            yield Row(
                "9110 4.2.3",
                f"{name} {shown} comes back as it was",
                request(target=where),
                (404,),
                STAYS,
                contains=name,
            )


def _fields() -> Iterable[Row]:
    yield Row(
        "9110 5.1",
        "names of fields in any capitals",
        post("cOnTeNt-TyPe: x").replace(b"Content-L", b"cONTENT-l"),
        (200,),
        STAYS,
    )
    yield Row("9112 5.1", "white space before the colon", request("a : b"), (400,), CLOSES)
    yield Row("9112 5.1", "no white space after the colon", request("Host:x"), (200,), STAYS)
    yield Row("9112 5", "a line without a colon", request("a"), (400,), CLOSES)
    yield Row("9112 5", "a field without a name", request(": b"), (400,), CLOSES)
    for name in ("a b", "a(b)", "a\x00b", "é"):
        yield Row("9110 5.1", f"a field named {name!r}", request(f"{name}: c"), (400,), CLOSES)
    yield Row("9110 5.5", "NUL in a field", request("a: b\x00c"), (400,), CLOSES)
    yield Row("9110 5.5", "bytes above ASCII in a field", request("a: é"), (200,), STAYS)
    yield Row("9112 5.2", "a folded line is one with spaces, or refused", request("a: b", " c"), ((200, 400),))
    yield Row("9110 6.6.1", "a response has a Date", request(), (200,), STAYS, {"date": ""})
    yield Row("9110 6.6.1", "a refusal has a Date", request("a : b"), (400,), CLOSES, {"date": ""})
    yield Row("9110 8.3", "content has a type", request(), (200,), STAYS, {"content-type": "application/json"})


def _framing() -> Iterable[Row]:
    smuggled = post("Transfer-Encoding: chunked", body=WHOLE)
    yield Row("9112 6.1", "Content-Length beside Transfer-Encoding", smuggled, (400,), CLOSES)
    yield Row(
        "9112 6.1",
        "Transfer-Encoding in HTTP/1.0",
        post("Transfer-Encoding: chunked", body=WHOLE, length=False, version="1.0"),
        (400,),
        CLOSES,
    )
    yield Row("9112 6.1", "codings in any capitals", chunked(WHOLE).replace(b": chunked", b": Chunked"), (200,), STAYS)
    for coding, statuses in (
        ("rot13", (501,)), ("gzip, chunked", (501,)), ("rot13, chunked", (501,)),
        ("chunked, gzip", (400,)), ("chunked, chunked", (400,)), ("xchunked", (501,)), ("chunked;a=b", (400, 501)),
        ("", (400, 501)),
    ):  # fmt: skip
        sent = chunked(WHOLE).replace(b": chunked", b": " + coding.encode())
        yield Row("9112 6.1", f"Transfer-Encoding: {coding}", sent, (statuses,), CLOSES)
    twice = chunked(WHOLE, "Transfer-Encoding: chunked")
    yield Row("9112 6.1", "Transfer-Encoding twice", twice, (400,), CLOSES)
    for length in ("-1", "+2", "ten", "0x2", "1_0", "2.0", "2 2", "", "٣"):
        sent = request(f"Content-Length: {length}".encode(), target=PREDICT, method="POST", body=b"{}")
        yield Row("9112 6.3", f"Content-Length: {length}", sent, (400,), CLOSES)
    for number in (f"{len(BODY)}, {len(BODY)}", f"{len(BODY)}\r\nContent-Length: {len(BODY)}"):
        sent = request(f"Content-Length: {number}", target=PREDICT, method="POST", body=BODY)
        yield Row("9112 6.3", "one length twice is one, or refused", sent, ((200, 400),))
    for number in ("2, 3", "2\r\nContent-Length: 3"):
        sent = request(f"Content-Length: {number}", target=PREDICT, method="POST", body=b"{}1")
        yield Row("9112 6.3", f"two lengths: {number!r}", sent, (400,), CLOSES)
    yield Row("9112 6.3", "a POST without a length", request(method="POST", target=PREDICT), ((400, 411),))
    yield Row("9112 6.3", "a GET may have content", request("Content-Length: 5", body=b"hello"), (200,), STAYS)
    yield Row(
        "9112 8",
        "a body that is cut off",
        post("Content-Length: 50", body=b"{}", length=False),
        (400,),
        CLOSES,
        ended=True,
    )


def _chunks() -> Iterable[Row]:
    yield Row("9112 7.1", "chunks", chunked(PARTS + b"\r\n"), (200,), STAYS)
    yield Row("9112 7.1", "leading zeros of a size", chunked(b"000" + WHOLE), (200,), STAYS)
    yield Row(
        "9112 7.1.1", "extensions are ignored", chunked(WHOLE.replace(b"\r\n{", b';a=b;c="d"\r\n{')), (200,), STAYS
    )
    yield Row("9112 7.1.2", "trailers", chunked(PARTS + b"a: b\r\nc: d\r\n\r\n"), (200,), STAYS)
    for data in (
        b"xyz\r\n",
        b"-2\r\n{}",
        b"0x2\r\n{}",
        b"2 2\r\n{}",
        b"\r\n",
        b"2\r\n{}9\r\n",
        b"1\r\n{}\r\n0\r\n\r\n",
        b"+2\r\n{}\r\n0\r\n\r\n",
        b"2_0\r\n",
    ):
        yield Row("9112 7.1", f"a broken chunk: {data!r}", chunked(data), (400,), CLOSES, ended=True)
    yield Row("9112 7.1", "a size that overflows", chunked(b"fffffffffffffffff\r\n"), ((400, 413),), CLOSES, ended=True)
    yield Row(
        "9112 7.1.2", "a trailer that does not end", chunked(PARTS + b"a: b\r\n" * 20_000), ((400, 413, 431),), CLOSES
    )
    yield Row(
        "9112 7.1.1", "an extension that does not end", chunked(b"2;" + b"a" * 100_000), ((400, 413, 431),), CLOSES
    )
    yield Row("9112 8", "chunks that are cut off", chunked(PARTS[:-3]), (400,), CLOSES, ended=True)


def _persistence() -> Iterable[Row]:
    yield Row("9112 9.3", "HTTP/1.1 stays open", request(), (200,), STAYS)
    for option in ("close", "CLOSE", "TE, close", "close, TE", "keep-alive, close"):
        yield Row(
            "9112 9.6",
            f"Connection: {option}",
            request(f"Connection: {option}"),
            (200,),
            CLOSES,
            {"connection": "close"},
        )
    yield Row(
        "9112 9.6",
        "Connection in two lines",
        request("Connection: TE", "Connection: close"),
        (200,),
        CLOSES,
        {"connection": "close"},
    )
    yield Row("9112 9.3", "HTTP/1.0 closes", request(version="1.0"), (200,), CLOSES)
    yield Row(
        "9112 9.3",
        "HTTP/1.0 with keep-alive: closes, or says that it stays",
        request("Connection: keep-alive", version="1.0"),
        (200,),
        "as it says",
    )
    yield Row(
        "9112 9.3.2",
        "requests in one packet are answered in order",
        post() + GET,
        (200, 200),
        STAYS,
        contains="model_version_status",
    )
    yield Row("9112 9.6", "nothing is answered after close", request("Connection: close") + GET, (200,), CLOSES)
    yield Row(
        "9112 9.3", "an error of the API leaves the connection open", request(target="/v1/models/none"), (404,), STAYS
    )


def _semantics() -> Iterable[Row]:
    yield Row("9110 9.1", "a method that nobody knows", request(method="FETCH"), ((400, 501),))
    yield Row("9110 9.1", "methods are written in capitals", request(method="get"), ((400, 501),))
    yield Row("9110 9.1", "a method that is no token", request(method="G(T"), (400,), CLOSES)
    for method in ("PUT", "DELETE", "PATCH", "TRACE"):
        sent = request("Content-Length: 0", method=method)
        yield Row("9110 15.5.6", f"{method} is refused", sent, ((400, 405, 501),))
    yield Row(
        "9110 9.3.2",
        "HEAD is GET without content",
        request(method="HEAD"),
        (200,),
        STAYS,
        {"content-length": "as GET"},
        of_head=True,
    )
    yield Row(
        "9110 9.3.2", "HEAD of what is not there", request(method="HEAD", target="/none"), (404,), STAYS, of_head=True
    )
    for expectation in ("100-continue", "100-Continue"):
        head = post(f"Expect: {expectation}", f"Content-Length: {len(BODY)}", length=False, body=b"")
        yield Row("9110 10.1.1", f"Expect: {expectation}", head, (100, 200), STAYS, then=BODY)
    yield Row(
        "9110 10.1.1", "Expect in HTTP/1.0 is ignored", post("Expect: 100-continue", version="1.0"), (200,), CLOSES
    )
    yield Row(
        "9110 10.1.1",
        "no 100 where the content will be refused",
        post("Expect: 100-continue", "Content-Length: 99999999999", length=False, body=b""),
        ((413, 417),),
        CLOSES,
    )
    yield Row("9110 10.1.1", "no 100 where no content follows", request("Expect: 100-continue"), (200,), STAYS)
    yield Row("9110 10.1.1", "another expectation", post("Expect: a miracle"), ((417, 200),))


def _codings() -> Iterable[Row]:
    packed = {
        "gzip": gzip.compress(BODY),
        "x-gzip": gzip.compress(BODY),
        "GZIP": gzip.compress(BODY),
        "deflate": zlib.compress(BODY),
    }
    packed |= {
        "identity": BODY,
        "gzip, gzip": gzip.compress(gzip.compress(BODY)),
        "deflate, gzip": gzip.compress(zlib.compress(BODY)),
    }
    for coding, body in packed.items():
        yield Row(
            "9110 8.4.1", f"Content-Encoding: {coding}", post(f"Content-Encoding: {coding}", body=body), (200,), STAYS
        )
    for coding in ("br", "notgzip", "gzip, br"):
        accepted = {"accept-encoding": "gzip, deflate"}
        yield Row(
            "9110 15.5.16",
            f"Content-Encoding: {coding}",
            post(f"Content-Encoding: {coding}", body=packed["gzip"]),
            (415,),
            STAYS,
            accepted,
        )
    for coding in ("gzip", "deflate"):
        yield Row("9110 8.4.1", f"{coding} that is none", post(f"Content-Encoding: {coding}"), (400,), STAYS)


def _limits() -> Iterable[Row]:
    many = [f"field-{number}: value" for number in range(110)]
    yield Row("9110 5.4", "110 fields", request(*many), (200,), STAYS)
    yield Row("9110 5.4", "a field of 8000 bytes", request("a: " + "b" * 7990), (200,), STAYS)
    yield Row("RFC 6585 5", "fields of more than a server takes", request("a: " + "b" * 100_000), (431,), CLOSES)
    yield Row(
        "RFC 6585 5",
        "more fields than a server takes",
        request(*(f"f{n}: {'v' * 40}" for n in range(5000))),
        (431,),
        CLOSES,
    )
    yield Row(
        "9110 15.5.14",
        "content that is too large",
        post("Content-Length: 999999999", length=False, body=b""),
        (413,),
        CLOSES,
    )


def problems(row: Row, address: tuple[str, int]) -> list[str]:
    """What a server does otherwise than the row says; empty where it conforms."""
    with Peer(address) as peer:
        try:
            peer.send(row.sent)
            if row.ended:
                peer.end()
        except ConnectionError:
            pass  # refused before all of it was sent; the answer may be there
        answer: Answer | None = None
        for expected in row.statuses:
            if answer is not None and row.then:
                peer.send(row.then)
            answer = peer.read(of_head=row.of_head)
            allowed = expected if isinstance(expected, tuple) else (expected,)
            if answer is None:
                return [f"the connection was closed without the answer {allowed}"]
            if answer.status not in allowed:
                return [f"answered {answer.status}, expected one of {allowed}: {answer.content[:200]!r}"]
        assert answer is not None
        found = [] if row.contains in _text(answer.content) else [f"{row.contains!r} is not in {answer.content!r}"]
        for name, value in row.fields.items():
            if value == "as GET":
                value = _length_of_get(address)
            if (
                value.lower() not in answer.fields.get(name, "nothing" if value else "").lower()
                or name not in answer.fields
            ):
                found.append(f"{name} is {answer.fields.get(name)!r}, expected {value!r}")
        after = row.after
        if after == "as it says":
            after = STAYS if "keep-alive" in answer.fields.get("connection", "").lower() else CLOSES
        if after == CLOSES and not peer.has_closed():
            found.append("the connection is open, or another answer came")
        if after == STAYS and not peer.answers_again():
            found.append("the connection does not answer another request")
        return found


def _text(content: bytes) -> str:
    """JSON without escapes; other content as it is."""
    try:
        return json.dumps(json.loads(content), ensure_ascii=False)
    except ValueError:
        return content.decode("utf-8", "replace")


def _length_of_get(address: tuple[str, int]) -> str:
    with Peer(address) as peer:
        peer.send(GET)
        answer = peer.read()
        assert answer is not None
        return str(len(answer.content))
