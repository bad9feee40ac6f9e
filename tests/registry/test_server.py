"""MLflow by its REST API is reached as MLflow's own client reaches it, and what it refuses is no outage."""

import ipaddress
import json
import ssl
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from nightshift.errors import BadEnvironment, BadInput
from nightshift.registry.rest import Mlflow
from nightshift.registry.server import client_arguments

VERSION = '{"model_version": {"name": "shop", "version": "3", "tags": []}}'
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


class Server(ThreadingHTTPServer):
    """Answers everything with one status and text, and keeps what it was asked."""

    def __init__(self, status=200, text=VERSION, context=None):
        super().__init__(("127.0.0.1", 0), _Answer)
        self.status, self.text, self.asked = status, text, []
        if context:
            self.socket = context.wrap_socket(self.socket, server_side=True)
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def handle_error(self, *_):
        pass  # whoever does not trust its certificate hangs up


class _Answer(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append((self.path, self.headers))
        self.send_response(self.server.status)
        self.send_header("Location", "https://sign.in/")
        self.end_headers()
        self.wfile.write(self.server.text.encode())

    def log_message(self, *_):
        pass


@pytest.fixture
def serve(monkeypatch):
    """A function that starts a server; nothing of this machine's proxies and certificates counts."""
    for name in (*PROXIES, "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    servers = []

    def start(*args, **kwargs):
        servers.append(Server(*args, **kwargs))
        return servers[-1]

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def ask(uri, **environment):
    with Mlflow({"MLFLOW_TRACKING_URI": uri, **environment}) as mlflow:
        return mlflow.version_of("shop", "3")


def test_a_proxy_is_asked_with_its_own_login(serve, monkeypatch):
    proxy = serve()
    monkeypatch.setenv("HTTP_PROXY", f"http://gate:pass-word@127.0.0.1:{proxy.server_port}")
    assert ask("http://mlflow.example.test:5000", MLFLOW_TRACKING_TOKEN="t").version == "3"
    ((path, headers),) = proxy.asked
    assert path.startswith("http://mlflow.example.test:5000/api/2.0/mlflow/model-versions/get?")
    assert headers["Proxy-Authorization"].startswith("Basic ")
    assert headers["Authorization"] == "Bearer t"
    direct = serve()
    monkeypatch.setenv("NO_PROXY", "127.0.0.0/8")
    ask(f"http://127.0.0.1:{direct.server_port}")
    assert (len(proxy.asked), len(direct.asked)) == (1, 1)


@pytest.mark.usefixtures("serve")
@pytest.mark.parametrize(
    "uri", ["http://10.1.2.3:5000", "https://mlflow.corp.test", "http://mlflow:5000", "http://[fd00::1]:5000"]
)
@pytest.mark.parametrize(
    "no_proxy",
    ["", "*", "10.0.0.0/8", "10.1.2.3", "11.0.0.0/8, 10.1.0.0/16", "corp.test", ".corp.test", "other.test,mlflow", "mlflow:5000",
     "flow.corp.test", "10.0.0.0/99"],
)  # fmt: skip
@pytest.mark.parametrize("variable", ["HTTP_PROXY", "https_proxy", "ALL_PROXY"])
def test_the_proxy_is_the_one_that_mlflows_client_takes(monkeypatch, uri, no_proxy, variable):
    monkeypatch.setenv(variable, "http://proxy.test:3128")
    monkeypatch.setenv("NO_PROXY", no_proxy)
    theirs = requests.utils.select_proxy(uri, requests.utils.get_environ_proxies(uri))
    ours = client_arguments({"MLFLOW_TRACKING_URI": uri})["proxy"]
    assert (str(ours.url) if ours else None) == theirs


@pytest.mark.usefixtures("serve")
@pytest.mark.parametrize(
    "proxy", ["ftp://gate:pass-word@proxy.test", "http://gate:pass-word@proxy.test:port", "socks9://a:pass-word@b"]
)
def test_a_proxy_that_cannot_be_used_is_named_without_its_login(monkeypatch, proxy):
    monkeypatch.setenv("HTTP_PROXY", proxy)
    with pytest.raises(BadInput, match="prox") as caught:
        ask("http://mlflow.test")
    assert "pass-word" not in str(caught.value)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """Files of an own authority and of a certificate for 127.0.0.1 with its key."""
    folder, now = tmp_path_factory.mktemp("tls"), datetime.now(UTC)
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]) for name in ("authority", "server")]
    addresses = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = []
    for key, name, is_authority in zip(keys, names, (True, False), strict=True):
        builder = x509.CertificateBuilder(names[0], name, key.public_key(), x509.random_serial_number())
        builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
        builder = builder.add_extension(x509.BasicConstraints(is_authority, None), critical=True)
        made.append(
            (builder if is_authority else builder.add_extension(addresses, critical=False)).sign(
                keys[0], hashes.SHA256()
            )
        )
    pem = serialization.Encoding.PEM
    (folder / "authority.pem").write_bytes(made[0].public_bytes(pem))
    private = keys[1].private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "server.pem").write_bytes(private + made[1].public_bytes(pem))
    return folder


@pytest.fixture
def https(serve, certificates):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "server.pem")
    return f"https://127.0.0.1:{serve(context=context).server_port}"


def test_an_unknown_authority_is_said_to_be_one(https):
    with pytest.raises(BadEnvironment, match="CERTIFICATE_VERIFY_FAILED"):
        ask(https)


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_an_own_authority_of_the_machine_is_trusted(https, certificates, monkeypatch, variable):
    monkeypatch.setenv(variable, str(certificates / "authority.pem"))
    assert ask(https).version == "3"


def test_an_own_authority_of_mlflow_is_trusted_before_that_of_the_machine(https, certificates, monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/gone")
    assert ask(https, MLFLOW_TRACKING_SERVER_CERT_PATH=str(certificates / "authority.pem")).version == "3"


@pytest.mark.parametrize("value", ["true", "True", "1"])
def test_who_says_so_trusts_every_certificate(https, value):
    assert ask(https, MLFLOW_TRACKING_INSECURE_TLS=value).version == "3"


def test_a_server_that_asks_for_a_certificate_gets_the_own_one(serve, certificates):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "server.pem")
    context.load_verify_locations(certificates / "authority.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    uri, own = f"https://127.0.0.1:{serve(context=context).server_port}", str(certificates / "server.pem")
    trusted = {"MLFLOW_TRACKING_SERVER_CERT_PATH": str(certificates / "authority.pem")}
    with pytest.raises(BadEnvironment):
        ask(uri, **trusted)
    assert ask(uri, MLFLOW_TRACKING_CLIENT_CERT_PATH=own, **trusted).version == "3"


@pytest.mark.parametrize("variable", ["MLFLOW_TRACKING_SERVER_CERT_PATH", "MLFLOW_TRACKING_CLIENT_CERT_PATH"])
@pytest.mark.parametrize("content", [None, "no certificate"])
def test_certificates_that_cannot_be_read_are_named(tmp_path, variable, content):
    file = tmp_path / "cert.pem"
    if content:
        file.write_text(content)
    with pytest.raises(BadInput, match=f"{variable} names {file}"):
        ask("https://mlflow.test", **{variable: str(file)})


def refusal(words):
    return json.dumps({"error_code": "SOME_ERROR", "message": words})


LOGIN = {"MLFLOW_TRACKING_USERNAME": "someone", "MLFLOW_TRACKING_PASSWORD": "pass-word"}


@pytest.mark.parametrize(
    ("status", "text", "said"),
    [
        (400, refusal("a tag has at most\n5000 characters"), r"refuses model-versions/get \(400, a tag has at most 5000 char"),
        (401, refusal("who are you"), r"\(401, who are you\): check the login of the Airflow connection nightshift_mlflow"),
        (403, "<html>", r"\(403, without a message\): check the login"),
        (404, "<html>", r"\(404, without a message\): a retry cannot help"),
        (409, refusal("it is there, see http://a:pass-word@b/c"), r"it is there, see http://b/c"),
        (413, "[]", r"\(413, without a message\)"),
        (302, "", r"\(302, without a message\)"),
    ],
)  # fmt: skip
def test_what_mlflow_refuses_is_final_and_told_in_its_words(serve, status, text, said):
    with pytest.raises(BadInput, match=said) as caught:
        ask(f"http://127.0.0.1:{serve(status, text).server_port}", **LOGIN)
    assert "pass-word" not in str(caught.value)


@pytest.mark.parametrize(
    ("status", "text", "said"),
    [
        (408, "", "answers 408"),
        (429, refusal("slow down"), "answers 429, slow down"),
        (500, refusal("database is locked"), "answers 500, database is locked"),
        (502, "<html>", "answers 502, without a message"),
        (503, "5", "answers 503"),
        (200, "<html>maintenance</html>", r"\(200\) is not MLflow"),
    ],
)
def test_a_server_that_is_down_or_busy_is_waited_for(serve, status, text, said):
    with pytest.raises(BadEnvironment, match=said) as caught:
        ask(f"http://127.0.0.1:{serve(status, text).server_port}", **LOGIN)
    assert "pass-word" not in str(caught.value)


def test_a_login_in_the_address_is_used_and_never_shown(serve):
    server = serve()
    found = ask(f"http://someone:pass-word@127.0.0.1:{server.server_port}/")
    assert found.url == f"http://127.0.0.1:{server.server_port}/#/models/shop/versions/3"
    assert server.asked[0][1]["Authorization"].startswith("Basic ")
    with pytest.raises(BadEnvironment, match="does not answer") as caught:
        ask("http://someone:pass-word@127.0.0.1:9")
    assert "pass-word" not in str(caught.value)


@pytest.mark.parametrize("uri", ["", "sqlite:///mlflow.db"])
def test_an_address_that_is_no_servers_is_wrong_and_not_down(uri):
    with pytest.raises(BadInput, match="MLFLOW_TRACKING_URI"):
        ask(uri)
