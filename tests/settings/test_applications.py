"""Application files: what a person who writes one is told."""

from pathlib import Path

import jsonschema
import pytest
import yaml

from nightshift.cli import main
from nightshift.settings.applications import (
    BadApplication,
    application_names,
    application_schema,
    load_application,
    load_compute,
    read_application,
    readable_applications,
)
from nightshift.settings.project import PACKAGE

SMALLEST = """\
description: Answers questions about returns.
sources:
  - uri: s3://support/returns/{start:%Y/%m/%d}/*.jsonl.gz
    columns: {prompt: question, answer: reply}
"""


def write(folder: Path, text: str, name: str = "returns_helper") -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(text)
    return path


def complaint(folder: Path, text: str) -> str:
    with pytest.raises(BadApplication) as caught:
        read_application(write(folder, text))
    return str(caught.value)


def test_an_application_of_four_lines_is_complete(tmp_path):
    app = read_application(write(tmp_path, SMALLEST))
    assert app.name == "returns_helper"
    assert app.training.learning_rate is None, "decided when the model is known"
    assert app.ingest.splits.train + app.ingest.splits.traffic + app.ingest.splits.held_out == 1


def test_a_relative_source_starts_at_the_application_file(tmp_path):
    app = read_application(write(tmp_path, SMALLEST.replace("s3://support", "../drops")))
    assert app.sources[0].uri == str(tmp_path.parent / "drops/returns/{start:%Y/%m/%d}/*.jsonl.gz")


def test_a_relative_source_of_traffic_starts_there_too(tmp_path):
    traffic = "traffic: {sources: [{uri: ../served/*.jsonl, columns: {prompt: question}}]}\n"
    app = read_application(write(tmp_path, SMALLEST + traffic))
    assert app.traffic.sources[0].uri == str(tmp_path.parent / "served/*.jsonl")


def test_the_sample_reads_and_has_every_day_it_names():
    app = load_application("banking_assistant")
    assert app.end is not None
    days = [app.start.replace(day=day) for day in range(app.start.day, app.end.day + 1)]
    assert all(Path(app.sources[0].uri_for(day, day)).exists() for day in days)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("description:", "descripton:"), ["yaml:1: descripton: unknown key; did you mean `description`?"]),
        (("columns: {prompt:", "columns: {promt:"), ["yaml:4: sources[0].columns.promt", "did you mean `prompt`"]),
        (
            ("uri: s3://support/returns/", "uri: s3://support/{day}/"),
            ["yaml:3: sources[0].uri", "`{day}` is not known"],
        ),
        (("description:", "name: other\ndescription:"), ["yaml:1: name: unknown key; the file's name is the name"]),
        (
            ("description:", "training: {epochs: 900}\ndescription:"),
            ["yaml:1: training.epochs", "less than or equal to 50", "900"],
        ),
        (
            ("description:", "training:\n  method: loora\ndescription:"),
            ["yaml:2: training.method", "'auto', 'full' or 'lora'", "'loora'"],
        ),
        (("description:", "ingest: {splits: {train: 0.9}}\ndescription:"), ["ingest.splits", "must be 1, not 1.1"]),
        (
            ("description:", "start: 2026-05-02\nend: 2026-05-01\ndescription:"),
            ["end 2026-05-01 is before start 2026-05-02"],
        ),
        (
            ("description:", "prompt: {user: hello}\ndescription:"),
            ["yaml:1: prompt.user: must hold {prompt}", "'hello'"],
        ),
        (
            ("{prompt: question, answer: reply}", "{answer: reply}"),
            ["sources[0].columns", "either `messages`, or `prompt`"],
        ),
        (
            ("description:", "validation:\n  expectations:\n  - measure: rows\ndescription:"),
            ["yaml:3: validation.expectations[0]", "give `min`, `max` or both"],
        ),
        (("description: A", "description: [A"), ["not valid YAML"]),
        (("sources:", "source:"), ["yaml:2: source: unknown key; did you mean `sources`?", "sources: Field required"]),
        (("description:", "start: 2026-02-30\ndescription:"), ["yaml:1: not valid YAML: '2026-02-30'", "day"]),
        (("description:", "retrain: null\nowner: !!int foo\ndescription:"), ["yaml:2: not valid YAML: 'foo'"]),
        (("description:", "owner: !!timestamp foo\ndescription:"), ["yaml:1: not valid YAML: 'foo'"]),
        (("description:", f"prompt: {'[' * 5_000}\ndescription:"), ["nested too deep"]),
        (
            ("description:", "description: Another.\ndescription:"),
            ["yaml:2: not valid YAML: the key `description` is there twice"],
        ),
        (("{prompt: question,", "{prompt: question, prompt: text,"), ["yaml:4", "`prompt` is there twice"]),
        (
            ("description:", "schedule: every day\ndescription:"),
            ["yaml:1: schedule: is no cron expression", "you wrote 'every day'"],
        ),
        (("description:", "schedule: '@fortnightly'\ndescription:"), ["schedule: is no preset", "@daily, @weekly"]),
        (("description:", "retrain: 0 0 31 2 *\ndescription:"), ["retrain: is no cron expression", "next date"]),
        (
            ("description:", "schedule: 0 2 * * * *\ndescription:"),  # a sixth field is of seconds: 60 runs a day
            [
                "yaml:1: schedule: is no cron expression (minute hour",
                "it has 6 fields, not 5",
                "you wrote '0 2 * * * *'",
            ],
        ),
        (
            ("description:", "retrain: 0 2 * * * * 2026\ndescription:"),
            ["yaml:1: retrain:", "it has 7 fields", "@daily"],
        ),
        (("description:", "schedule: 0 2 * *\ndescription:"), ["it has 4 fields, not 5", "such as `0 2 * * *`"]),
        (
            ("description:", "schedule: R R * * *\ndescription:"),  # another time at every look
            ["yaml:1: schedule: is no cron", "filled in at random"],
        ),
        (("returns/", "}/"), ["yaml:3: sources[0].uri: the data interval cannot be filled in: Single '}'"]),
        (("returns/", "{start:%Y/"), ["yaml:3: sources[0].uri"]),
        (("s3://", "s4://"), ["yaml:3: sources[0].uri: no storage is known as `s4://`"]),
        (
            ("description:", "validation: {suites: [words, profile]}\ndescription:"),
            ["yaml:1: validation.suites: `profile` is what Nightshift's own checks"],
        ),
        (("description:", "validation: {suites: [index]}\ndescription:"), ["`index` is what", "rename the suite"]),
        (("description:", "validation: {suites: [a, b, a]}\ndescription:"), ["validation.suites: `a` is there twice"]),
        (
            ("description:", "gate: {conditions: [{metric: politness, at_most: 1}]}\ndescription:"),
            ["gate.conditions: there is no metric 'politness' that is a number (exact_match, "],
        ),
        (
            ("description:", "gate: {conditions: [{metric: loss, suite: red_lines, at_most: 1}]}\ndescription:"),
            ["there is no suite 'red_lines' in evaluation.suites (none)"],
        ),
        (
            (
                "description:",
                "evaluation: {suites: [{uri: 'x/{start:%Y}.csv', columns: {prompt: a, answer: b}}]}\ndescription:",
            ),
            ["yaml:1: evaluation.suites", "the same for every interval"],
        ),
        (
            ("description:", "evaluation: {suites: [{name: new, uri: x.csv, columns: {prompt: a}}]}\ndescription:"),
            ["suite 'new': call it otherwise"],
        ),
        (("uri: s3:", "connection: bank_db\n    uri: s3:"), ["`connection` and `query` go together"]),
    ],
)
def test_a_mistake_is_answered_with_file_line_key_value_and_what_is_allowed(tmp_path, change, expected):
    text = complaint(tmp_path, SMALLEST.replace(*change))
    for part in expected:
        assert part in text


@pytest.mark.parametrize(("name", "better"), [("My App", "my_app"), ("2nd", "nd"), ("x" * 64, "x"), ("-", "name")])
def test_a_file_whose_name_is_no_name_is_told_why_and_what_would_be_one(tmp_path, name, better):
    with pytest.raises(BadApplication, match=rf"the file's name is what DAGs .*call it {better}.*\.yaml"):
        read_application(write(tmp_path, SMALLEST, name))


def test_a_yml_file_is_not_passed_over_silently(project, capsys):
    write(project / "apps", SMALLEST, "good")
    other = project / "apps" / "other.yml"
    other.write_text(SMALLEST)
    assert application_names() == ["good", "other"]
    assert [app.name for app in readable_applications()] == ["good"]
    assert main(["apps", "check"]) == 65
    assert main(["apps", "check", str(other)]) == 65
    assert capsys.readouterr().err.count("other.yml: only `.yaml` is read; call it other.yaml") == 2


def test_every_mistake_of_a_file_is_named_at_once(tmp_path):
    text = complaint(tmp_path, "descripton: x\ntraining: {epochs: -1}\n" + SMALLEST.partition("\n")[2])
    assert len(text.splitlines()) == 2


@pytest.mark.parametrize("text", ["", "just words", "- a\n- list", "\x00", "sources: 3"])
def test_a_file_that_is_no_mapping_is_refused_and_not_a_traceback(tmp_path, text):
    assert "returns_helper.yaml" in complaint(tmp_path, text)


def test_a_file_is_read_again_only_where_it_changed(tmp_path, monkeypatch):
    reads, loaded = [], yaml.load
    monkeypatch.setattr(yaml, "load", lambda *args, **kwargs: reads.append(1) or loaded(*args, **kwargs))
    path = write(tmp_path, SMALLEST)
    assert read_application(path) == read_application(path)
    assert len(reads) == 1
    write(tmp_path, SMALLEST + "owner: returns-team\n")
    assert read_application(path).owner == "returns-team"
    path.unlink()
    with pytest.raises(BadApplication, match="there is no such file"):
        read_application(path)


def test_a_file_that_is_nested_far_too_deep_is_refused_and_ends_no_process(tmp_path):
    depth = 200_000  # libyaml's own composer overflows the stack
    assert "nested too deep" in complaint(tmp_path, f"description: {'[' * depth}{']' * depth}\n{SMALLEST}")


def test_an_unreadable_application_leaves_the_others_alone(project):
    write(project / "apps", SMALLEST, "good")
    write(project / "apps", "nonsense: 1", "bad")
    assert [app.name for app in readable_applications()] == ["good"]


def test_a_missing_application_names_those_that_are_there(project):
    write(project / "apps", SMALLEST, "good")
    with pytest.raises(BadApplication, match=r"there is no such file.*good"):
        load_application("goood")


def test_apps_check_says_which_files_are_well_formed_and_fails_for_the_rest(tmp_path, capsys):
    good, bad = write(tmp_path, SMALLEST, "good"), write(tmp_path, "nonsense: 1", "bad")
    assert main(["apps", "check", str(good)]) == 0
    assert main(["apps", "check", str(good), str(bad)]) == 65
    shown = capsys.readouterr()
    assert "good is well formed" in shown.out
    assert f"{bad}:1: nonsense: unknown key" in shown.err


def test_apps_check_fails_where_there_is_nothing_to_check(project, capsys):
    assert main(["apps", "check"]) == 65
    assert f"there is no application file in {project}/apps" in capsys.readouterr().err


def test_apps_check_looks_for_the_compute_profile_too(tmp_path, capsys):
    file = write(tmp_path, "compute: big_gpu\n" + SMALLEST)
    assert main(["apps", "check", str(file)]) == 65
    shown = capsys.readouterr().err
    assert f"{file}: compute: " in shown
    assert "big_gpu.yaml: there is no such file" in shown


@pytest.mark.parametrize("schedule", ["@hourly", "@quarterly", "30 2 * * 1-5", "*/15 * * * *"])
def test_a_schedule_that_airflow_takes_is_taken(tmp_path, schedule):
    text = f"schedule: '{schedule}'\nretrain: '{schedule}'\n{SMALLEST}"
    assert read_application(write(tmp_path, text)).retrain == schedule


def test_editors_get_a_schema_that_accepts_the_sample_and_refuses_a_typo(tmp_path):
    sample = yaml.safe_load((PACKAGE / "apps/banking_assistant.yaml").read_text())
    sample = {key: value.isoformat() if hasattr(value, "isoformat") else value for key, value in sample.items()}
    jsonschema.validate(sample, application_schema())
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**sample, "descripton": "x"}, application_schema())


@pytest.mark.parametrize("text", ["- cpus: 2\n", "words\n", "name: other\n"])
def test_a_compute_profile_that_is_none_is_refused_and_not_a_traceback(project, text):
    (project / "compute" / "odd.yaml").write_text(text)
    with pytest.raises(BadApplication, match=r"odd\.yaml:1: "):
        load_compute("odd")


@pytest.mark.parametrize("place", ["apps", "samples/full/apps"])
def test_the_sample_leaves_nothing_of_what_is_learned_to_be_decided(place):
    training = read_application(PACKAGE / place / "banking_assistant.yaml").training
    given = training.model_dump(include={"method", "learning_rate", "sequence_length", "rows_per_step", "zero_stage"})
    assert given.keys() == {"method", "learning_rate", "sequence_length", "rows_per_step", "zero_stage"}
    assert not {None, "auto"} & set(given.values())
