"""An authority of the tests' own, and what it signs."""

import datetime
from dataclasses import dataclass
from pathlib import Path

import trustme


@dataclass(frozen=True)
class Certificates:
    """Files (PEM) of an authority, a server on this host, and a client."""

    home: Path
    ca_file: Path
    server_file: Path
    server_key: Path
    client_file: Path
    client_key: Path

    @classmethod
    def make(cls, home: Path, *names: str, expired: bool = False) -> "Certificates":
        """The server's certificate is for `names`; 127.0.0.1 and localhost where none is given."""
        home.mkdir(parents=True, exist_ok=True)
        authority = trustme.CA()
        over = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC) if expired else None
        server = authority.issue_cert(*(names or ("127.0.0.1", "localhost")), not_after=over)
        client = authority.issue_cert("client@tests")
        made = cls(
            home, *(home / f"{name}.pem" for name in ("ca", "server", "server-key", "client", "client-key"))
        )
        authority.cert_pem.write_to_path(str(made.ca_file))
        for leaf, cert, key in (
            (server, made.server_file, made.server_key),
            (client, made.client_file, made.client_key),
        ):
            leaf.private_key_pem.write_to_path(str(key))
            cert.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
        return made
