"""The files around the code agree with each other: what documents name exists, what is pinned is installed."""

import json
import re
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path

import pytest
import yaml
from lock import for_every_build

from nightshift.audit.signature import signing_key
from nightshift.settings.project import PACKAGE
from nightshift.stack.place import CHECKOUT

DOCUMENTS = sorted(
    [
        *CHECKOUT.glob("*.md"),
        *CHECKOUT.glob("docs/**/*.md"),
        *CHECKOUT.glob(".github/workflows/*"),
        CHECKOUT / ".ci/run",
    ]
)
WORKFLOWS = sorted(CHECKOUT.glob(".github/workflows/*"))


def pins_of(name: str) -> dict[str, str]:
    """Name and version of what a lock file pins."""
    pins = re.findall(r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?==(\S+)", (CHECKOUT / name).read_text(), re.MULTILINE)
    return {_normal(package): version for package, version in pins}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z0-9-]+):", (CHECKOUT / "Makefile").read_text(), re.MULTILINE))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_make_target_that_a_document_names_exists(document: Path) -> None:
    named = set(re.findall(r"(?:^|`| {4})make ([a-z0-9-]+)", document.read_text(), re.MULTILINE))

    assert named <= make_targets()


def test_the_help_lists_what_a_user_calls() -> None:
    text = subprocess.run(["make", "help"], cwd=CHECKOUT, capture_output=True, text=True, check=True).stdout

    assert {
        "run",
        "up",
        "down",
        "test",
        "test-unit",
        "test-nightly",
        "lint",
        "lock",
        "images",
        "clean",
        "benchmark",
    } <= set(re.findall(r"make ([a-z0-9-]+)", text))


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_runs_no_action_but_by_its_digest_and_may_change_nothing(workflow: Path) -> None:
    text = workflow.read_text()

    actions = re.findall(r"uses: (.*)", text)
    assert actions
    assert [action for action in actions if not re.fullmatch(r"[\w/-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action)] == []
    assert yaml.safe_load(text)["permissions"] == {"contents": "read"}
    assert text.count("actions/checkout@") == text.count("persist-credentials: false")


def test_the_workflow_of_a_commit_runs_what_the_local_one_runs_beside_each_other() -> None:
    job = yaml.safe_load((CHECKOUT / ".github/workflows/ci.yml").read_text())["jobs"]["check"]
    targets = job["strategy"]["matrix"]["target"]
    tiers = re.search(r"^test: .*\n\t@\$\(RUN_TESTS\) ([a-z0-9 ]+) ", (CHECKOUT / "Makefile").read_text(), re.MULTILINE)

    assert set(targets) <= make_targets()
    assert set(targets) == {"lint", *(f"test-{tier}" for tier in tiers[1].split())}
    assert set(re.findall(r"make (\w+) PYTHON", (CHECKOUT / ".ci/run").read_text())) == {"lint", "test"}
    assert {"run": 'make "$TARGET"', "env": {"TARGET": "${{ matrix.target }}"}} in job["steps"]


def test_astro_starts_an_mlflow_where_the_connection_looks_for_it() -> None:
    override = yaml.safe_load((CHECKOUT / "docker-compose.override.yml").read_text())["services"]
    for name in ("scheduler", "triggerer", "dag-processor", "api-server"):
        connection = json.loads(override[name]["environment"]["AIRFLOW_CONN_NIGHTSHIFT_MLFLOW"])
        assert connection["host"] in override
        assert f"--port={connection['port']}" in override[connection["host"]]["command"]
    assert override["mlflow"]["image"].endswith(f":v{pins_of('requirements.lock')['mlflow']}")


def test_under_astro_every_part_of_airflow_reaches_one_storage_and_the_rest_api() -> None:
    override = yaml.safe_load((CHECKOUT / "docker-compose.override.yml").read_text())
    for name in ("scheduler", "triggerer", "dag-processor", "api-server"):
        service = override["services"][name]
        volume, _, folder = service["volumes"][0].partition(":")
        environment = service["environment"]
        connection = json.loads(environment["AIRFLOW_CONN_NIGHTSHIFT_AIRFLOW"])
        assert volume in override["volumes"]
        assert environment["AIRFLOW_VAR_NIGHTSHIFT_STORAGE"].startswith(f"file://{folder}/")
        # The folder's owner in the image becomes the volume's.
        assert f"install -d -o astro -g 0 -m 0775 {folder}" in (CHECKOUT / "Dockerfile").read_text()
        assert connection["host"] in override["services"]
        assert environment["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS"] == "True"
        assert connection["login"]  # without one the password would be a token


def test_no_deployment_runs_an_image_of_the_tag_latest() -> None:
    for name in ("docker/compose.yaml", "docker-compose.override.yml"):
        images = re.findall(r"^\s*image: (?:&\w+ |\*\w+)?(.*)$", (CHECKOUT / name).read_text(), re.MULTILINE)
        named = [image for image in images if image]
        assert named
        assert [image for image in named if ":" not in image or image.endswith(":latest")] == []


def test_the_place_of_a_project_for_astro_is_in_a_folder_that_astro_shows_to_airflow() -> None:
    named = re.search(
        r"NIGHTSHIFT_PROJECT=(\S+)/include/project` in `\.env`", (CHECKOUT / "docs/project.md").read_text()
    )

    assert f"PYTHONPATH={named[1]}/include:" in (CHECKOUT / "Dockerfile").read_text()


def test_compose_refers_only_to_what_it_declares(tmp_path: Path) -> None:
    text = (CHECKOUT / "docker/compose.yaml").read_text()
    compose = yaml.safe_load(text)
    services, volumes = compose["services"], compose["volumes"]
    for name, service in services.items():
        assert set(service.get("depends_on", {})) <= set(services), name
        named = [volume.split(":")[0] for volume in service.get("volumes", []) if isinstance(volume, str)]
        assert {volume for volume in named if not volume.startswith("../")} <= set(volumes), name
        assert all((CHECKOUT / "docker" / volume).exists() for volume in named if volume.startswith("../")), name
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name
    make_env = [sys.executable, CHECKOUT / "docker/make_env.py"]
    subprocess.run(make_env, cwd=tmp_path, check=True)
    written = tmp_path / ".env"
    required = set(re.findall(r"\${([A-Z_]+):\?", text))
    # These came later, and a file from before goes on without.
    assert required | {"AUDIT_KEY", "METRICS_TOKEN", "AIRFLOW_METRICS", "COMPOSE_PROFILES"} == set(
        re.findall(r"^([A-Z_]+)=", written.read_text(), re.MULTILINE)
    )
    with_key = [name for name, one in services.items() if "NIGHTSHIFT_AUDIT_KEY" in one.get("environment", {})]
    assert with_key == ["scheduler"]
    with_token = [name for name, one in services.items() if "NIGHTSHIFT_METRICS_TOKEN" in one.get("environment", {})]
    assert with_token == ["api-server"]
    shared = set(compose["x-airflow"]["environment"])
    assert all(set(services[name]["environment"]) > shared for name in ("scheduler", "api-server"))
    signing_key(re.search(r"^AUDIT_KEY=(.*)", written.read_text(), re.MULTILINE)[1])
    assert written.stat().st_mode & 0o777 == 0o600

    before = written.read_text()
    again = subprocess.run(make_env, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "is there already and stays" in again.stderr
    assert written.read_text() == before


def test_compose_has_prometheus_scrape_the_api_server_with_the_token_and_grafana_show_every_dashboard() -> None:
    compose = yaml.safe_load((CHECKOUT / "docker/compose.yaml").read_text())["services"]
    scraping = yaml.safe_load((CHECKOUT / "deploy/prometheus/prometheus.yaml").read_text())
    (job,) = scraping["scrape_configs"]
    (target,) = job["static_configs"][0]["targets"]
    token = job["authorization"]["credentials_file"]
    provisioning = CHECKOUT / "deploy/grafana/provisioning"
    shown = yaml.safe_load((provisioning / "dashboards/nightshift.yaml").read_text())["providers"][0]["options"]["path"]
    source = yaml.safe_load((provisioning / "datasources/prometheus.yaml").read_text())["datasources"][0]["url"]
    mounted = dict(volume.split(":")[:2] for one in ("prometheus", "grafana") for volume in compose[one]["volumes"])

    assert target == "api-server:8080"
    assert "api-server" in compose
    assert source == "http://prometheus:9090"
    assert f"> {token};" in compose["prometheus"]["entrypoint"][2]
    assert [(CHECKOUT / "deploy/prometheus" / name).exists() for name in scraping["rule_files"]] == [True]
    assert mounted["../deploy/prometheus"] == "/etc/prometheus"
    assert mounted["../deploy/grafana/dashboards"] == shown
    assert {one["profiles"][0] for one in (compose["prometheus"], compose["grafana"])} == {"monitoring"}


def test_compose_shows_a_named_project_to_every_part_of_airflow_and_lets_none_change_it() -> None:
    text = (CHECKOUT / "docker/compose.yaml").read_text()
    airflow = yaml.safe_load(text)["x-airflow"]
    (bind,) = [volume for volume in airflow["volumes"] if isinstance(volume, dict)]
    named = re.fullmatch(r"\$\{NIGHTSHIFT_PROJECT:\+(\S+)\}", airflow["environment"]["NIGHTSHIFT_PROJECT"])
    source = re.fullmatch(r"\$\{NIGHTSHIFT_PROJECT:-(\S+)\}", bind["source"])

    assert bind == {"type": "bind", "source": source[0], "target": named[1], "read_only": True}
    assert (CHECKOUT / "docker" / source[1]).resolve() == PACKAGE
    assert f"ARG FOLDER={named[1]}\n" in (PACKAGE / "samples/project/Dockerfile").read_text()


def test_the_locks_hold_the_direct_pins_and_the_development_lock_holds_the_runtime_lock() -> None:
    runtime, development = pins_of("requirements.lock"), pins_of("requirements-dev.lock")

    assert pins_of("requirements.txt").items() <= runtime.items()
    assert pins_of("requirements-dev.txt").items() <= development.items()
    assert runtime.items() <= development.items()


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-dev.lock"])
def test_a_lock_names_no_host_and_no_build_that_only_some_indexes_have(name: str) -> None:
    text = (CHECKOUT / name).read_text()

    assert "://" not in text
    assert "--" not in text.replace("---", "")
    assert not re.search(r"==\S*\+", text)


def test_a_lock_fits_the_cpu_and_the_cuda_build_of_torch() -> None:
    compiled = "cuda-bindings==13.5.0\nnvidia-cublas==13.1\nnvidia-ml-py==13.595\ntorch==2.13.0+cpu\ntriton==3.7.1\n"

    assert for_every_build(compiled) == "nvidia-ml-py==13.595\ntorch==2.13.0\n"


def test_what_is_installed_is_what_the_lock_says() -> None:
    installed = {_normal(found.name): found.version.partition("+")[0] for found in distributions()}
    pinned = pins_of("requirements.lock")

    assert {name: installed.get(name) for name in pinned} == pinned
