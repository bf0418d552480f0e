"""Certificates and kubeconfigs of a throw-away cluster: one authority, one client certificate per part.

Keys are elliptic (P-256) because they are made in a millisecond; the pair that signs service-account
tokens too. Nothing here is meant to leave the machine.
"""

import base64
import datetime
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LIFETIME = datetime.timedelta(days=365)
RENEW_BEFORE = datetime.timedelta(days=30)


@dataclass(frozen=True)
class Client:
    """A certificate's subject as the API server reads it: the user, and its groups' organisation."""

    name: str
    user: str
    group: str | None = None


CLIENTS = (
    Client("admin", "admin", "system:masters"),
    Client("controller-manager", "system:kube-controller-manager"),
    Client("scheduler", "system:kube-scheduler"),
    Client("proxy", "system:kube-proxy"),
)


class Authority:
    """The certificate folder of one cluster; made once, renewed when it is about to expire."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def path(self, name: str) -> Path:
        """A file of the folder, e.g. `ca.crt` or `admin.key`."""
        return self.directory / name

    def ensure(self, server_names: Sequence[str], clients: Sequence[Client]) -> None:
        """Make what is missing; start over when the authority nears its end."""
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        if self._expires_soon():
            for old in self.directory.iterdir():
                old.unlink()
            ca_key = ec.generate_private_key(ec.SECP256R1())
            self._write("ca", ca_key, _certificate(_name("sightline-local", None), ca_key, None, []))
            _write_private(self.path("sa.key"), account_key := ec.generate_private_key(ec.SECP256R1()))
            self.path("sa.pub").write_bytes(
                account_key.public_key().public_bytes(
                    serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
                )
            )
        self._leaf("apiserver", _name("kube-apiserver", None), server_names)
        for client in clients:
            self._leaf(client.name, _name(client.user, client.group), [])

    def write_kubeconfig(self, path: Path, client: str, server: str) -> None:
        """A self-contained kubeconfig for one client, readable by its owner alone."""

        def inline(name: str) -> str:
            return base64.b64encode(self.path(name).read_bytes()).decode()

        cluster = {"server": server, "certificate-authority-data": inline("ca.crt")}
        user = {
            "client-certificate-data": inline(f"{client}.crt"),
            "client-key-data": inline(f"{client}.key"),
        }
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "sightline-local", "cluster": cluster}],
            "users": [{"name": client, "user": user}],
            "contexts": [{"name": "sightline-local", "context": {"cluster": "sightline-local", "user": client}}],
            "current-context": "sightline-local",
        }
        path.touch(mode=0o600)
        path.write_text(yaml.safe_dump(config, sort_keys=False))

    def _expires_soon(self) -> bool:
        try:
            certificate = x509.load_pem_x509_certificate(self.path("ca.crt").read_bytes())
        except FileNotFoundError:
            return True
        return certificate.not_valid_after_utc < datetime.datetime.now(datetime.UTC) + RENEW_BEFORE

    def _leaf(self, name: str, subject: x509.Name, server_names: Sequence[str]) -> None:
        # Made anew each time: it costs a millisecond, and the names of the server may have changed.
        ca_key = serialization.load_pem_private_key(self.path("ca.key").read_bytes(), None)
        if not isinstance(ca_key, ec.EllipticCurvePrivateKey):
            raise TypeError("the authority's key is not elliptic")
        ca = x509.load_pem_x509_certificate(self.path("ca.crt").read_bytes())
        key = ec.generate_private_key(ec.SECP256R1())
        self._write(name, key, _certificate(subject, key, (ca, ca_key), server_names))

    def _write(self, name: str, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
        _write_private(self.path(f"{name}.key"), key)
        self.path(f"{name}.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


def _write_private(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    path.touch(mode=0o600)
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )


def _name(common: str, organization: str | None) -> x509.Name:
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, common)]
    if organization:
        attributes.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization))
    return x509.Name(attributes)


def _certificate(
    subject: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    issuer: tuple[x509.Certificate, ec.EllipticCurvePrivateKey] | None,
    server_names: Sequence[str],
) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer[0].subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + LIFETIME)
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        # Key identifiers and usages, because strict checkers (Python 3.13 by default) refuse chains without them.
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key((issuer[1] if issuer else key).public_key()),
            critical=False,
        )
        .add_extension(_key_usage(is_authority=issuer is None), critical=True)
    )
    if issuer:
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    if server_names:
        builder = builder.add_extension(
            x509.SubjectAlternativeName([_general_name(name) for name in server_names]), critical=False
        )
    return builder.sign(issuer[1] if issuer else key, hashes.SHA256())


def _key_usage(*, is_authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
