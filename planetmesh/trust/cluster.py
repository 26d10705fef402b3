"""Certificates for the processes of one Dask cluster and for the line over which each of them gets the key.

A cluster has one certificate, made by the mesh's CA for this cluster alone, and its processes trust that one
and nothing else: not the CA, so no member of the mesh gets in either (`tls.pinned_context`).
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import NameOID

from planetmesh.errors import NotAllowed
from planetmesh.trust.identity import key_to_pem

OWN_VALID = timedelta(days=365)
"""Of the certificate that a task makes for itself: whoever looks at it was told its very bytes."""
OWN_BACKDATE = timedelta(days=365)
"""Clocks on a LAN differ."""


def make_own() -> tuple[str, str]:
    """Key and certificate (PEM) that a process makes for itself; others are told the certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "planetmesh task")])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - OWN_BACKDATE)
        .not_valid_after(now + OWN_VALID)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    )
    certificate = builder.sign(key, hashes.SHA256())
    return key_to_pem(key).decode("ascii"), certificate.public_bytes(Encoding.PEM).decode("ascii")


def check_cluster(certificate_pem: str, ca_pem: str, key_pem: str) -> None:
    """Raise NotAllowed unless this mesh's CA made the certificate, for a cluster and for our key."""
    try:
        found = x509.load_pem_x509_certificate(certificate_pem.encode())
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
        found.verify_directly_issued_by(x509.load_pem_x509_certificate(ca_pem.encode()))
        ours = load_pem_private_key(key_pem.encode(), password=None).public_key()
    except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound) as error:
        raise NotAllowed("The coordinator gave no certificate of this mesh for the cluster.") from error
    if len(uris) != 1 or "/cluster/" not in uris[0] or found.public_key() != ours:
        raise NotAllowed("The coordinator gave a certificate for something else than the cluster.")
