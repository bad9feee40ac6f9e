"""A project folder: which applications and profiles there are, where paths start, and what is told when it is not there."""

from pathlib import Path

import pytest

from nightshift.cli import main
from nightshift.errors import BadInput
from nightshift.settings.applications import BadApplication, application_names, load_application, load_compute
from nightshift.settings.project import PACKAGE, project_folder

APPLICATION = "sources: [{uri: ../drops/*.jsonl, columns: {prompt: question, answer: reply}}]\n"


def test_without_a_project_the_sample_is_there():
    assert project_folder() == PACKAGE
    assert application_names() == ["banking_assistant"]


def test_the_full_sample_is_a_project_with_rows_and_profiles_of_the_package(monkeypatch):
    monkeypatch.setenv("NIGHTSHIFT_PROJECT", str(PACKAGE / "samples" / "full"))
    app = load_application("banking_assistant")
    assert app.base_model == "smollm2-135m-instruct"
    assert Path(app.sources[0].uri_for(app.start, app.start)).exists()
    assert load_compute(app.profile_of("train")).name == "local"


def test_a_projects_applications_replace_the_sample_and_their_paths_start_at_their_files(project):
    (project / "apps" / "returns.yaml").write_text(f"base_model: ../models/returns\n{APPLICATION}")
    assert application_names() == ["returns"]
    app = load_application("returns")
    assert app.sources[0].uri == f"{project}/drops/*.jsonl"
    assert app.base_model == f"{project}/models/returns"


def test_a_model_that_finds_names_is_a_package_or_starts_at_the_file(project):
    models = "{en: en_core_web_lg, de: ../models/german, other: /srv/names}"
    (project / "apps" / "returns.yaml").write_text(f"ingest: {{names: {{models: {models}}}}}\n{APPLICATION}")
    found = load_application("returns").ingest.names.models
    assert found == {"en": "en_core_web_lg", "de": f"{project}/models/german", "other": "/srv/names"}


def test_a_source_is_found_through_the_link_to_a_project_that_is_synchronised(project, monkeypatch):
    (project / "apps" / "returns.yaml").write_text(APPLICATION)
    link = project.parent / "current"
    link.symlink_to(project)
    monkeypatch.setenv("NIGHTSHIFT_PROJECT", str(link))
    assert load_application("returns").sources[0].uri == f"{link}/drops/*.jsonl"


def test_the_id_of_a_model_of_the_hub_is_no_path(project):
    (project / "apps" / "returns.yaml").write_text(f"base_model: Qwen/Qwen2.5-0.5B-Instruct\n{APPLICATION}")
    assert load_application("returns").base_model == "Qwen/Qwen2.5-0.5B-Instruct"


def test_a_projects_own_profile_comes_before_that_of_the_package(project):
    assert load_compute("local").cpus == 2
    (project / "compute" / "local.yaml").write_text("backend: local\ncpus: 7\n")
    assert load_compute("local").cpus == 7
    assert load_compute("kubernetes").backend == "kubernetes"


def test_a_profile_that_neither_has_is_missing_from_the_project(project):
    with pytest.raises(BadApplication, match=rf"{project}/compute/gpu\.yaml: there is no such file"):
        load_compute("gpu")


def test_the_template_of_a_profile_starts_at_the_profile(project):
    (project / "compute" / "gpu.yaml").write_text("backend: kubernetes\ntemplate: pods/gpu.yaml\n")
    assert load_compute("gpu").template == f"{project}/compute/pods/gpu.yaml"


def test_a_project_is_the_same_folder_for_whatever_is_started_elsewhere(project, monkeypatch):
    monkeypatch.chdir(project.parent)
    monkeypatch.setenv("HOME", str(project.parent))
    for named in (project.name, f"~/{project.name}"):
        assert project_folder({"NIGHTSHIFT_PROJECT": named}) == project


def test_a_project_that_is_not_there_or_is_none_is_an_error_and_not_the_sample(project):
    for named in (project.parent / "gone", project / "compute"):
        with pytest.raises(
            BadInput, match=rf"NIGHTSHIFT_PROJECT={named}: there is no folder {named}/apps here; `nightshift init"
        ):
            project_folder({"NIGHTSHIFT_PROJECT": str(named)})


@pytest.mark.parametrize("name", ["NIGHTSHIFT_APPS", "NIGHTSHIFT_COMPUTE"])
def test_a_variable_of_an_earlier_version_says_what_to_do_instead(project, monkeypatch, capsys, name):
    monkeypatch.setenv(name, str(project / "apps"))
    assert main(["apps", "check"]) == 65
    said = capsys.readouterr().err
    assert f"{name} is set and no longer read" in said
    assert "name the folder that holds apps/ and compute/ in NIGHTSHIFT_PROJECT" in said
