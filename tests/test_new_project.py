"""`nightshift init`: the project that it makes works at once, and nothing that is there is ever overwritten."""

import json
import re
from pathlib import Path

import jsonschema
import pytest
import yaml
from airflow.dag_processing.dagbag import DagBag

from nightshift.cli import main
from nightshift.settings.applications import load_application, load_compute

DAGS = Path(__file__).parents[1] / "dags"


@pytest.fixture
def made(tmp_path, monkeypatch, capsys):
    """A new project with the application `returns`, which `$NIGHTSHIFT_PROJECT` names, and what was said."""
    folder = tmp_path / "team" / "nightshift"
    assert main(["init", str(folder), "--application", "returns"]) == 0
    monkeypatch.setenv("NIGHTSHIFT_PROJECT", str(folder))
    return folder, capsys.readouterr().out


def files_of(folder):
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_what_was_written_and_what_comes_next_is_said(made):
    folder, said = made
    assert set(re.findall(r"wrote (.*)", said)) == {str(folder / name) for name in files_of(folder)}
    assert said.endswith(f"export NIGHTSHIFT_PROJECT={folder}\n  nightshift apps check\n  nightshift up\n")


def test_a_new_project_passes_the_check_and_its_profiles_can_be_used(made, monkeypatch, capsys):
    folder, _ = made
    assert main(["apps", "check"]) == 0
    assert capsys.readouterr().out == f"{folder}/apps/returns.yaml: returns is well formed\n"
    assert load_application("returns").sources[0].uri == f"{folder}/data/{{start:%Y-%m-%d}}.jsonl"
    assert load_compute("local").backend == "local"
    monkeypatch.setenv("NIGHTSHIFT_IMAGE", "trainer:1")
    assert main(["compute", "render", "kubernetes"]) == 0


def test_the_dags_of_a_new_project_are_those_of_its_application_and_of_housekeeping(made):
    bag = DagBag(DAGS)
    assert bag.import_errors == {}
    names = {name for name in bag.dags if not name.startswith("nightshift_")}
    kinds = {file.stem for file in DAGS.glob("*.py") if "application_dag(" in file.read_text()}
    assert names == {f"returns_{kind}" for kind in kinds}


def test_every_setting_that_is_commented_out_can_be_used(made):
    folder, _ = made
    for path in (folder / "apps" / "returns.yaml", folder / "compute" / "kubernetes.yaml"):
        path.write_text(re.sub(r"(?m)^# (\w+: (?:[{\[]|\w[\w./:-]*(?:  #|$)).*)$", r"\1", path.read_text()))
    app, compute = load_application("returns"), load_compute("kubernetes")
    assert (app.approval.required, app.timezone, app.validation.suites) == ("always", "Europe/Berlin", ["words"])
    assert (compute.gpus, compute.nodes, compute.spot) == (1, 2, True)


def test_editors_are_shown_a_schema_that_takes_the_files(made):
    folder, _ = made
    for name in ("apps/returns.yaml", "compute/kubernetes.yaml", "prompts/returns.yaml"):
        path = folder / name
        link = re.match(r"# yaml-language-server: \$schema=(\S+)\n", path.read_text())
        schema = json.loads((path.parent / link[1]).read_text())
        fields = {
            key: str(value) if key == "start" else value for key, value in yaml.safe_load(path.read_text()).items()
        }
        jsonschema.validate(fields, schema)


def test_a_second_time_nothing_is_overwritten_and_another_application_is_added(made, capsys):
    folder, _ = made
    (folder / "README.md").write_text("ours")
    (folder / "apps" / "returns.yaml").unlink()
    before = files_of(folder)
    assert main(["init", str(folder), "--application", "exchanges"]) == 0
    said = capsys.readouterr().out
    after = files_of(folder)
    assert {name: after[name] for name in before} == before
    assert after.keys() - before.keys() == {"apps/exchanges.yaml", "prompts/exchanges.yaml"}
    assert re.findall(r"wrote (.*)", said) == [str(folder / name / "exchanges.yaml") for name in ("apps", "prompts")]
    assert f"kept  {folder}/README.md, which was there" in said


@pytest.mark.parametrize("name", ["My App", "../other", "", "2nd"])
def test_a_name_that_no_application_can_have_is_refused_before_anything_is_written(tmp_path, capsys, name):
    assert main(["init", str(tmp_path / "project"), "--application", name]) == 65
    assert "cannot be the name of an application: small letters" in capsys.readouterr().err
    assert not (tmp_path / "project").exists()


def test_a_folder_that_cannot_be_written_is_named(tmp_path, capsys):
    (tmp_path / "project").write_text("a file")
    assert main(["init", str(tmp_path / "project")]) == 69
    assert f"{tmp_path}/project/" in capsys.readouterr().err


def test_the_readme_of_a_new_project_names_files_and_commands_that_exist(made):
    folder, _ = made
    text = (folder / "README.md").read_text()
    assert all((folder / name).exists() for name in re.findall(r"\w+/\w+\.\w+", text))
    assert "APPLICATION" not in text
    assert set(re.findall(r"`?nightshift ([a-z]+)", text)) == {"apps", "up", "init", "compute", "prompts"}
