"""What tests share: an object store that speaks S3, an MLflow server, a browser, and a server of OpenAI's chat protocol."""

import gc
import itertools
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from pathlib import Path

import pytest
from _pytest.mark.expression import Expression
from chat_server import ChatServer

# An Airflow home of the tests' own, set before any test file imports airflow.
HOME = tempfile.mkdtemp(prefix="nightshift-airflow-")
for key in [key for key in os.environ if key.startswith("AIRFLOW_")]:
    del os.environ[key]
os.environ.pop("NIGHTSHIFT_PROJECT", None)  # that of whoever runs the tests
os.environ.update(
    AIRFLOW_HOME=HOME,
    AIRFLOW__CORE__DAGS_FOLDER=str(Path(__file__).parents[1] / "dags"),
    AIRFLOW__CORE__LOAD_EXAMPLES="False",
    AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=f"sqlite:///{HOME}/airflow.db",
    AIRFLOW_CONN_NIGHTSHIFT_MLFLOW="http://someone:pass-word@127.0.0.1:5999",
)

MARK = re.compile(r"\bmark\.(\w+)")
gc.disable()  # until all files are imported: what they import stays, and looking through it takes a fifth of the tests


def pytest_collection_finish():
    """Leave what was imported out of every later collection of garbage."""
    gc.freeze()
    gc.enable()


def pytest_unconfigure():
    """Let the end of the process take all of it down: DuckDB would say that it leaks."""
    gc.unfreeze()


def pytest_ignore_collect(collection_path, config):
    """Leave out a file of which `-m` selects no test: importing it would load libraries that only its tests need."""
    markexpr = config.option.markexpr
    return (markexpr and collection_path.match("test_*.py") and is_left_out(collection_path, markexpr)) or None


def is_left_out(path, markexpr):
    """Whether an expression of `-m` is false for every test that a file may have, going by the marks in its text."""
    text = path.read_text()
    of_all = set(MARK.findall("".join(re.findall(r"(?m)^pytestmark = (.*)", text))))
    of_some = set(re.findall(r"\w+", markexpr)) & set(MARK.findall(text + _helpers(path.parent, text)))
    selected = Expression.compile(markexpr)
    for decorators in re.findall(r"(?m)^((?:[@ )\]].*\n)*)def test_", text) or [""]:
        own = of_all | set(re.findall(r"(?m)^@pytest\.mark\.(\w+)", decorators))
        others = of_some - own
        for chosen in itertools.product((False, True), repeat=len(others)):
            marks = own | {mark for mark, is_on in zip(others, chosen, strict=True) if is_on}
            if selected.evaluate(lambda name, marks=marks, **_: name in marks):
                return False
    return True


def _helpers(folder, text):
    """The text of the modules beside a test file that it takes marks from."""
    found = (folder / f"{name}.py" for name in re.findall(r"(?m)^(?:from|import) (\w+)", text))
    return "".join(file.read_text() for file in found if file.exists())


# Files that one process runs, one after the other: what asks the same Airflows; what people do with the sample once its
# story is told, and what starts stacks of its own, so that the shared one need not run beside them.
TOGETHER = (
    ("access/test_matrix.py", "access/test_token.py"),
    ("e2e/test_loop.py", "e2e/test_people.py"),
    (
        "data/test_ingestion_memory.py",
        "e2e/test_stored_state.py",
        "e2e/test_two_schedulers.py",
        "stack/test_start_stop.py",
    ),
)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """With `--dist loadfile`: the same, with the files of each of TOGETHER as one."""
    if config.getvalue("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class Files(LoadFileScheduling):
        def _split_scope(self, nodeid):
            file = super()._split_scope(nodeid)
            return next((files for files in TOGETHER if file.removeprefix("tests/") in files), file)

    return Files(config, log)


@pytest.fixture(scope="session")
def bucket():
    """URI of an empty bucket; credentials and endpoint are in the environment, as they are in production."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as environment:
        for key, value in {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
        }.items():
            environment.setenv(key, value)
        boto3.client("s3").create_bucket(Bucket="nightshift")
        yield "s3://nightshift"
    server.stop()


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory):
    """URI of a running MLflow server with a database of its own; `MLFLOW_TRACKING_URI` names it."""
    import requests

    folder = tmp_path_factory.mktemp("mlflow")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--host", "127.0.0.1", "--port", str(port)]
    command += [
        "--backend-store-uri",
        f"sqlite:///{folder}/mlflow.db",
        "--artifacts-destination",
        str(folder / "files"),
    ]
    switches = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(
            command, cwd=folder, env={**os.environ, **switches}, stdout=log, stderr=log, start_new_session=True
        )
    uri = f"http://127.0.0.1:{port}"
    try:
        for _ in range(1_800):
            assert server.poll() is None, (folder / "server.log").read_text()
            try:
                if requests.get(f"{uri}/health", timeout=2).ok:
                    break
            except requests.RequestException:
                time.sleep(0.1)
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("MLFLOW_TRACKING_URI", uri)
            yield uri
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


@pytest.fixture(scope="session")
def mlflow_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("mlflow")


@pytest.fixture
def mlflow_store(mlflow_folder, monkeypatch):
    """A client of an MLflow store in a file; it is the tracking server of this test, and its artifacts lie beside it."""
    from mlflow import MlflowClient

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{mlflow_folder}/mlflow.db")
    monkeypatch.chdir(mlflow_folder)
    return MlflowClient()


def other_python(name, what):
    """The Python of an environment whose pins are others than ours."""
    variable = f"NIGHTSHIFT_{name.upper()}_PYTHON"
    python = Path(os.environ.get(variable) or Path(__file__).parents[1] / f".venv-{name}" / "bin" / "python")
    if not python.exists():
        pytest.skip(f"{what} no environment here: `make environment-{name}`, or name its Python in {variable}")
    return str(python)


@pytest.fixture(scope="session")
def vllm_python():
    """The Python of the environment in which vLLM is."""
    return other_python("vllm", "vLLM has")


@pytest.fixture(scope="session")
def deploy_python():
    """The Python of the environment in which Helm, Terraform and checkov are."""
    return other_python("deploy", "Helm and Terraform have")


@pytest.fixture(scope="session")
def chromium():
    """A headless Chromium or Chrome of this machine, which asks nobody but the servers under test."""
    from playwright.sync_api import sync_playwright

    program = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chromium-browser"))), None)
    if not program:
        pytest.skip("the pages are looked at in a real browser, and there is none: install Chromium or Chrome")
    off = ("gpu", "quic", "background-networking", "component-update", "sync")
    switches = ["--no-sandbox", "--no-first-run", *(f"--disable-{what}" for what in off)]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=switches)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def wordless_model(tmp_path_factory):
    """A folder that passes for a base model where only the tokenizer matters: it splits at white space."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    folder = tmp_path_factory.mktemp("model")
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"")
    return folder


@pytest.fixture
def serve(monkeypatch):
    """A function that starts a server which answers OpenAI's chat protocol with what the given `reply` says."""
    from nightshift import endpoint_client

    monkeypatch.setattr(endpoint_client, "FIRST_PAUSE_SECONDS", 0.01)
    servers = []

    def start(reply):
        server = ChatServer(reply)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(params=["file"])
def storage(request, tmp_path):
    """URI of empty storage: a folder; with `everywhere` also this process's memory and a bucket."""
    if request.param == "s3":
        return f"{request.getfixturevalue('bucket')}/{uuid.uuid4().hex}"
    return tmp_path.as_uri() if request.param == "file" else f"memory://{uuid.uuid4().hex}"


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project folder without applications and profiles, which `$NIGHTSHIFT_PROJECT` names."""
    folder = tmp_path / "project"
    for name in ("apps", "compute"):
        (folder / name).mkdir(parents=True)
    monkeypatch.setenv("NIGHTSHIFT_PROJECT", str(folder))
    return folder


@pytest.fixture
def sample_project(project):
    """The same with the sample's application, which reads the package's rows."""
    from nightshift.settings.project import PACKAGE

    file = PACKAGE / "apps" / "banking_assistant.yaml"
    (project / "apps" / file.name).write_text(file.read_text().replace("../samples", str(PACKAGE / "samples")))
    return project
