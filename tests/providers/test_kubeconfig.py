"""Whom a kubeconfig lets us speak to, and as whom; the TLS here is real, with certificates made for the test."""

import base64
import json
import ssl
import sys
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from providers import kubeconfig
from providers.budget import Budget
from providers.clock import VirtualClock
from providers.errors import Invalid, NotPermitted, Unavailable
from providers.kubernetes import Cluster
from tests.emulators.kubernetes import Kubernetes
from tests.providers.test_kubernetes import NOW, written

HERE = "http://127.0.0.1:8001"
PLUGIN = """
import json, os, pathlib, sys
count = pathlib.Path(sys.argv[1]); made = int(count.read_text()) + 1; count.write_text(str(made))
asked = json.loads(os.environ["KUBERNETES_EXEC_INFO"])
token = f"{os.environ['PREFIX']}-{made}"
print(json.dumps({"apiVersion": asked["apiVersion"], "kind": "ExecCredential",
                  "status": {"token": token, "expirationTimestamp": sys.argv[2]}}))
"""


class Authority:
    """A certificate authority, with a certificate for the server and one for the client."""

    def __init__(self, folder: Path) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = self._signed("test authority", self.key, None)
        for name in ("server", "client"):
            key = ec.generate_private_key(ec.SECP256R1())
            (folder / f"{name}.crt").write_bytes(_pem(self._signed(name, key, self.certificate)))
            (folder / f"{name}.key").write_bytes(
                key.private_bytes(
                    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
                )
            )
        (folder / "ca.crt").write_bytes(_pem(self.certificate))

    def _signed(self, name: str, key: ec.EllipticCurvePrivateKey, by: x509.Certificate | None) -> x509.Certificate:
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder().subject_name(subject).issuer_name(by.subject if by else subject)
            .public_key(key.public_key()).serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=by is None, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
        )  # fmt: skip
        usage = x509.KeyUsage(True, False, False, False, False, by is None, by is None, False, False)
        return builder.add_extension(usage, critical=True).sign(self.key, hashes.SHA256())


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def data(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


def test_a_client_certificate_opens_a_cluster_that_asks_for_one(tmp_path: Path):
    Authority(tmp_path)
    clock = VirtualClock(NOW)
    emulator = Kubernetes(clock, token=None)
    emulator.add("one")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(tmp_path / "server.crt", tmp_path / "server.key")
    tls.load_verify_locations(tmp_path / "ca.crt")
    tls.verify_mode = ssl.CERT_REQUIRED
    emulator.start(tls)

    def names(user: dict[str, object], **cluster: object) -> list[str]:
        file = written(tmp_path, emulator.url, user, **cluster)
        client = Cluster("research", kubeconfig.read(str(file), "research", clock), Budget(clock))
        try:
            return [node.name for node in client.nodes()]
        finally:
            client.close()

    files: dict[str, object] = {"client-certificate": "client.crt", "client-key": "client.key"}
    inline: dict[str, object] = {
        "client-certificate-data": data(tmp_path / "client.crt"), "client-key-data": data(tmp_path / "client.key"),
    }  # fmt: skip
    try:
        assert names(files, **{"certificate-authority": "ca.crt"}) == ["one"]
        assert names(inline, **{"certificate-authority-data": data(tmp_path / "ca.crt")}) == ["one"]
        with pytest.raises(Unavailable):
            names({}, **{"certificate-authority": "ca.crt"})
        with pytest.raises(Unavailable, match="compare the kubeconfig's certificate authority"):
            names(files)
    finally:
        emulator.close()


def test_a_plug_in_is_asked_for_a_token_and_again_only_when_it_expires(tmp_path: Path):
    clock = VirtualClock(NOW)
    (tmp_path / "count").write_text("0")
    until = (NOW + timedelta(minutes=15)).isoformat().replace("+00:00", "Z")
    told = {
        "apiVersion": "client.authentication.k8s.io/v1beta1", "command": sys.executable,
        "args": ["-c", PLUGIN, str(tmp_path / "count"), until], "env": [{"name": "PREFIX", "value": "token"}],
    }  # fmt: skip
    access = kubeconfig.read(str(written(tmp_path, HERE, {"exec": told})), "research", clock)
    assert [access.token(False), access.token(False)] == ["token-1", "token-1"]
    assert access.token(True) == "token-2"
    clock.advance(14 * 60 + 1)
    assert access.token(False) == "token-3"


@pytest.mark.parametrize(
    ("script", "text"),
    [
        ("import sys; sys.exit('no session: log in')", "gave no token: no session: log in"),
        ("print('a secret')", "answered with no ExecCredential"),
    ],
)
def test_a_plug_in_that_gives_no_token_says_why(tmp_path: Path, script: str, text: str):
    told = {"apiVersion": "v1", "command": sys.executable, "args": ["-c", script]}
    access = kubeconfig.read(str(written(tmp_path, HERE, {"exec": told})), "research", VirtualClock(NOW))
    with pytest.raises(NotPermitted, match=text) as found:
        access.token(False)
    assert "a secret" not in str(found.value)


def test_a_plug_in_that_is_not_there_is_named(tmp_path: Path):
    told = {"apiVersion": "v1", "command": "no-such-plug-in"}
    access = kubeconfig.read(str(written(tmp_path, HERE, {"exec": told})), "research", VirtualClock(NOW))
    with pytest.raises(NotPermitted, match="no-such-plug-in cannot be run"):
        access.token(False)


def test_a_token_file_is_read_anew_each_time(tmp_path: Path):
    file = written(tmp_path, HERE, {"tokenFile": "token"})
    access = kubeconfig.read(str(file), "research", VirtualClock(NOW))
    for token in ("first", "second"):
        (tmp_path / "token").write_text(f"{token}\n")
        assert access.token(False) == token
    (tmp_path / "token").unlink()
    with pytest.raises(NotPermitted, match="cannot be read"):
        access.token(False)


@pytest.mark.parametrize(
    ("server", "user", "cluster", "text"),
    [
        ("http://10.0.0.1", {}, {}, "must be https, or http on this host"),
        ("", {}, {}, "must be https"),
        (HERE, {"username": "me", "password": "x"}, {}, "password, username, not understood"),
        (HERE, {"auth-provider": {"name": "gcp"}}, {}, "auth-provider, not understood"),
        (HERE, {}, {"insecure-skip-tls-verify": True}, "insecure-skip-tls-verify, not understood"),
        (HERE, {"exec": {"args": []}}, {}, "needs command and apiVersion"),
        ("https://a", {"client-key": "none"}, {}, "client-key none cannot be read"),
        ("https://a", {"client-key-data": "YQ=="}, {}, "a client certificate needs its key"),
        ("https://a", {}, {"certificate-authority-data": "!"}, "is not base64"),
        ("https://a", {}, {"certificate-authority-data": "YQ=="}, "a certificate or key cannot be used"),
    ],
)  # fmt: skip
def test_what_is_wrong_or_not_understood_is_refused_in_one_line(
    tmp_path: Path, server: str, user: dict[str, Any], cluster: dict[str, Any], text: str
):
    file = written(tmp_path, server, user, **cluster)
    with pytest.raises(Invalid, match=text) as found:
        kubeconfig.read(str(file), "research", VirtualClock(NOW))
    assert "\n" not in str(found.value)


@pytest.mark.parametrize("text", ["[1]", "contexts: [{name: a}]", "a: [", "contexts: [1]"])
def test_what_is_no_kubeconfig_is_refused(tmp_path: Path, text: str):
    file = tmp_path / "config"
    file.write_text(text)
    for path in (file, tmp_path / "none"):
        with pytest.raises(Invalid) as found:
            kubeconfig.contexts(str(path))
        assert str(path) in str(found.value)


def test_the_context_of_a_cluster_is_found_by_its_name_or_arn(tmp_path: Path):
    file = tmp_path / "config"
    names = ["research", "arn:aws:eks:us-east-1:123456789012:cluster/train", "a/two", "b/two"]
    file.write_text(json.dumps({"contexts": [{"name": name, "context": {}} for name in names]}))
    assert kubeconfig.context_of("research", str(file)) == "research"
    assert kubeconfig.context_of("train", str(file)) == names[1]
    for cluster, told in (("two", "has 2 contexts"), ("three", "has no context")):
        with pytest.raises(Invalid, match=f"{told} for cluster {cluster} - name one under contexts"):
            kubeconfig.context_of(cluster, str(file))
