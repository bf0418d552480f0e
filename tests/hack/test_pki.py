"""Certificates fit their authority, survive a restart and are readable by their owner alone."""

import base64
import contextlib
import ssl
import stat
from pathlib import Path

import yaml
from cryptography import x509
from cryptography.x509.oid import NameOID

from hack.cluster.pki import CLIENTS, Authority


def load(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def test_certificates_are_signed_by_the_authority_and_name_who_they_are_for(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "pki")
    authority.ensure(["127.0.0.1", "localhost"], CLIENTS)

    ca = load(authority.path("ca.crt"))
    for name in ("apiserver", *(client.name for client in CLIENTS)):
        load(authority.path(f"{name}.crt")).verify_directly_issued_by(ca)
    subject = load(authority.path("admin.crt")).subject
    assert subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)[0].value == "system:masters"
    names = load(authority.path("apiserver.crt")).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert names.value.get_values_for_type(x509.DNSName) == ["localhost"]


def test_strict_clients_accept_the_server(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "pki")
    authority.ensure(["127.0.0.1"], CLIENTS)
    client = ssl.create_default_context(cafile=str(authority.path("ca.crt")))
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(authority.path("apiserver.crt"), authority.path("apiserver.key"))
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    caller = client.wrap_bio(to_client, to_server, server_hostname="127.0.0.1")
    called = server.wrap_bio(to_server, to_client, server_side=True)

    for side in (caller, called, caller, called, caller):
        with contextlib.suppress(ssl.SSLWantReadError):
            side.do_handshake()

    assert caller.getpeercert()


def test_authority_stays_the_same_over_restarts(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "pki")
    authority.ensure(["127.0.0.1"], CLIENTS)
    before = [authority.path(name).read_bytes() for name in ("ca.crt", "sa.key")]

    authority.ensure(["127.0.0.1"], CLIENTS)

    assert [authority.path(name).read_bytes() for name in ("ca.crt", "sa.key")] == before


def test_kubeconfig_needs_no_other_file_and_is_private(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "pki")
    authority.ensure(["127.0.0.1"], CLIENTS)
    target = tmp_path / "kubeconfig"

    authority.write_kubeconfig(target, "admin", "https://127.0.0.1:6443")

    config = yaml.safe_load(target.read_text())
    inline = config["clusters"][0]["cluster"]["certificate-authority-data"]
    assert base64.b64decode(inline) == authority.path("ca.crt").read_bytes()
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert stat.S_IMODE(authority.path("ca.key").stat().st_mode) == 0o600
