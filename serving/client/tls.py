"""TLS of a client: what it trusts, and the certificate by which it says who it is."""

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serving.client.errors import CertificateError, TargetError
from serving.client.targets import Target


@dataclass(frozen=True)
class Tls:
    """The files of a client's TLS, all in PEM.

    Attributes:
        ca_file: Certificates to trust; where None, those of the system (REST) or of gRPC.
        cert_file: The client's own certificate, with the chain up to what the server trusts; None for none.
        key_file: Its key, not encrypted; where None, it is in `cert_file` too.

    Raises:
        CertificateError: A key without its certificate.
    """

    ca_file: str | Path | None = None
    cert_file: str | Path | None = None
    key_file: str | Path | None = None

    def __post_init__(self) -> None:
        if self.key_file is not None and self.cert_file is None:
            raise CertificateError(
                f"key_file is {str(self.key_file)!r} without a cert_file; give the certificate of this key too"
            )

    def check(self, target: str, address: Target) -> None:
        """Refuse a certificate for an address to which it would never be shown.

        Raises:
            TargetError: There is a certificate, and the address is one without TLS.
        """
        if self.cert_file is not None and not address.secure:
            raise TargetError(
                f"{target!r} is an address without TLS, where no certificate is shown; give https:// or grpcs://, "
                "or leave cert_file out"
            )

    def context(self) -> ssl.SSLContext:
        """What the standard library's connections need.

        Raises:
            CertificateError: A file cannot be read or is no PEM, or the key is not that of the certificate.
        """
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
            if self.cert_file is not None:
                # Without a password, a key that is encrypted would ask for one on the terminal.
                context.load_cert_chain(self.cert_file, self.key_file, password="")
        except OSError as error:
            files = {"ca_file": self.ca_file, "cert_file": self.cert_file, "key_file": self.key_file}
            given = ", ".join(f"{name} {str(path)!r}" for name, path in files.items() if path is not None)
            raise CertificateError(
                f"{given}: {error}; give files in PEM that are there, and a key that is not encrypted and belongs to "
                "the certificate"
            ) from error
        return context

    def credentials(self, grpc: Any) -> Any:
        """What a channel of the module `grpc` needs.

        Raises:
            CertificateError: As for `context`.
        """
        self.context()  # gRPC itself says of a wrong file only that no connection came about
        files = (self.ca_file, self.key_file or self.cert_file, self.cert_file)
        return grpc.ssl_channel_credentials(*(None if path is None else Path(path).read_bytes() for path in files))
