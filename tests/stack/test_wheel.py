"""What `pip install` brings: a wheel that works outside of the repository, with everything that Airflow reads."""

import json
import os
import re
import subprocess
import sys
import venv
from pathlib import Path

import pytest
from bootstrap import ROOT

pytestmark = pytest.mark.slow

UV = Path(sys.executable).parent / "uv"
READ = """\
import json, nightshift
from airflow.dag_processing.dagbag import DagBag
from nightshift.stack.place import this_place
place = this_place()
bag = DagBag(place.checkout / "dags")
print(json.dumps({
    "package": nightshift.__file__, "home": str(place.home), "errors": bag.import_errors, "dags": sorted(bag.dags),
    "settings": place.settings.is_file(), "plugins": [one.name for one in (place.checkout / "plugins").iterdir()],
}))
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A new environment with the wheel, made from the source archive, and the packages of the lock; run in an empty folder."""
    place = tmp_path_factory.mktemp("installed")
    subprocess.run([UV, "build", "--quiet", "--out-dir", place / "dist", ROOT], check=True)
    (wheel,) = (place / "dist").glob("*.whl")
    venv.create(place / "venv", symlinks=True)
    python = place / "venv" / "bin" / "python"
    subprocess.run([UV, "pip", "install", "--quiet", "--no-deps", "--python", python, wheel], check=True)
    (packages,) = (place / "venv" / "lib").glob("python*/site-packages")
    # The packages of this environment without the checkout.
    others = [path for path in sys.path if Path(path).name == "site-packages"]
    (packages / "lock.pth").write_text("\n".join(others))
    (place / "empty").mkdir()

    def run(*command, code=0, **variables):
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("NIGHTSHIFT", "PYTHON"))},
            "HOME": str(place / "home"),
            "AIRFLOW_HOME": str(place / "airflow"),
            **variables,
        }
        done = subprocess.run(
            [python.parent / command[0], *command[1:]],
            cwd=place / "empty", env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout

    run.place = place
    return run


def test_a_new_project_is_made_and_checked_outside_of_the_repository(installed):
    assert "start MLflow and Airflow on this machine" in installed("nightshift", "--help")
    project = installed.place / "returns"
    assert f"wrote {project}/apps/helper.yaml" in installed(
        "nightshift", "init", str(project), "--application", "helper"
    )
    said = installed("nightshift", "apps", "check", NIGHTSHIFT_PROJECT=str(project))
    assert said == f"{project}/apps/helper.yaml: helper is well formed\n"


def test_airflow_reads_the_dags_of_the_wheel_for_a_project_and_for_the_sample(installed):
    kinds = {path.stem for path in ROOT.glob("dags/*.py") if "application_dag(" in path.read_text()}
    project = installed.place / "shop"
    installed("nightshift", "init", str(project), "--application", "shop")
    for name, home, variables in (
        ("shop", project / ".nightshift", {"NIGHTSHIFT_PROJECT": str(project)}),
        ("banking_assistant", installed.place / "home" / ".nightshift", {}),
    ):
        read = json.loads(installed("python", "-c", READ, **variables).splitlines()[-1])
        assert read["package"].startswith(str(installed.place / "venv"))
        assert (read["errors"], read["home"]) == ({}, str(home))
        assert {dag for dag in read["dags"] if not dag.startswith("nightshift_")} == {
            f"{name}_{kind}" for kind in kinds
        }
        assert (read["settings"], read["plugins"]) == (True, ["nightshift_plugin.py"])


def test_the_wheel_holds_every_file_of_the_package_and_says_its_version(installed):
    there = {
        path.relative_to(ROOT / "include") for path in (ROOT / "include" / "nightshift").rglob("*") if path.is_file()
    }
    (packages,) = (installed.place / "venv" / "lib").glob("python*/site-packages")
    assert {path for path in there if "__pycache__" not in path.parts and not (packages / path).exists()} == set()
    version = re.search(r'"(.+)"', (ROOT / "include" / "nightshift" / "__init__.py").read_text().splitlines()[-1])[1]
    assert installed("nightshift", "--version") == f"nightshift {version}\n"
    code = "from nightshift.code_version import code_version; print(code_version())"
    assert installed("python", "-c", code) == f"{version}\n"
