"""Requests that were right until a seeded generator changed them: none may hang or break the server."""

from collections import Counter
from urllib.parse import urlsplit

import grpc
from mutations import attacks, send
from waiting import PATIENCE

from serving.grpc_server import GrpcServer
from serving.metrics import Metrics
from serving.server import Server, ServerOptions


def test_five_hundred_mutations(server: Server) -> None:
    address = urlsplit(server.url)
    opened = GrpcServer(server.manager, ServerOptions(port=0), Metrics())
    opened.start()
    outcomes: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    with grpc.insecure_channel(f"127.0.0.1:{opened.port}") as channel:
        for attack in attacks(7, 500):
            outcome = send(attack, (str(address.hostname), address.port or 0), channel)
            outcomes[outcome] += 1
            kinds[attack.kind] += 1
    assert opened.stop(PATIENCE)
    # The mutations are neither all harmless nor all the same.
    assert kinds["hostile"] < 100
    assert outcomes["200"] > 50
    assert outcomes["OK"] > 50
    assert outcomes["400"] > 50
    assert outcomes["INVALID_ARGUMENT"] > 25
    assert outcomes["0"] < 5
