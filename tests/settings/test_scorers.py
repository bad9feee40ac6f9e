"""A team's own scorers in an application file: what is looked at when it is read, and what a person is told."""

import hashlib

import pytest

from nightshift.cli import main
from nightshift.data.interactions import INTERACTION_SCHEMA
from nightshift.settings.applications import BadApplication, read_application
from nightshift.settings.scorers import TAKEN

SMALLEST = "sources: [{uri: rows.csv, columns: {prompt: question}}]\n"
MODULE = "def politeness(rows):\n    return [0.5 for _ in rows]\n"


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project folder with one module of scorers."""
    folder = tmp_path / "project"
    (folder / "apps").mkdir(parents=True)
    (folder / "tone.py").write_text(MODULE)
    monkeypatch.setenv("NIGHTSHIFT_PROJECT", str(folder))
    return folder


def read(project, scorer="politeness: {function: 'tone:politeness'}", rest=""):
    file = project / "apps/shop.yaml"
    file.write_text(f"{SMALLEST}scorers:\n  {scorer}\n{rest}")
    return read_application(file)


def complaint(project, scorer, rest=""):
    with pytest.raises(BadApplication) as caught:
        read(project, scorer, rest)
    return str(caught.value)


def test_a_scorer_is_read_with_the_digest_of_its_file(project):
    scorer = read(project).scorers["politeness"]
    assert scorer.digest == hashlib.sha256(MODULE.encode()).hexdigest()
    (project / "tone.py").write_text(MODULE + "# another version\n")
    assert read(project).scorers["politeness"].digest != scorer.digest


def test_its_metric_has_the_group_and_label_that_the_file_gives(project):
    text = "how_polite: {function: 'tone:politeness', kind: share, group: quality, label: kind words}"
    (metric,) = read(project, text).own_metrics
    assert (metric, metric.group, metric.label, metric.categorical) == ("how_polite", "quality", "kind words", False)
    (metric,) = read(project, "how_polite: {function: 'tone:politeness', kind: category}").own_metrics
    assert (metric.group, metric.label, metric.categorical) == ("scores", "how polite", True)


def test_reading_a_file_runs_no_code_of_the_team(project):
    (project / "tone.py").write_text(f"raise SystemExit('it was run')\n{MODULE}")
    assert "politeness" in read(project).scorers


def test_a_module_in_a_folder_of_the_project_is_found(project):
    (project / "text").mkdir()
    (project / "text/tone.py").write_text(MODULE)
    assert read(project, "politeness: {function: 'text.tone:politeness'}").scorers["politeness"].digest


@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("tone:politness", ["scorers.politeness.function", "no function `politness`; did you mean `politeness`?"]),
        ("nowhere:politeness", ["there is no file", "project/nowhere.py", "NIGHTSHIFT_PROJECT"]),
        ("../tone:politeness", ["function: String should match pattern", "you wrote '../tone:politeness'"]),
        ("/etc/tone:politeness", ["function: String should match pattern"]),
        ("..tone:politeness", ["function: String should match pattern"]),
        ("os:system", ["there is no file", "project/os.py"]),  # of an installed package
        ("nightshift.cli:main", ["there is no file"]),
        ("tone", ["function: String should match pattern"]),
        ("link:politeness", ["link.py is a link that leads out of the project folder"]),
        ("broken:politeness", ["broken.py:2: no valid Python"]),
        ("odd:no_rows", ["odd.py:1: `no_rows` must be a plain function of one argument"]),
        ("odd:two", ["odd.py:2: `two` must be a plain function of one argument"]),
        ("odd:waits", ["odd.py:3: `waits` must be a plain function of one argument"]),
    ],
)
def test_a_function_that_is_none_is_named_with_file_and_line(project, function, said):
    (project.parent / "outside.py").write_text(MODULE)
    (project / "link.py").symlink_to(project.parent / "outside.py")
    (project / "broken.py").write_text("def politeness(rows):\nreturn 1\n")
    (project / "odd.py").write_text(
        "def no_rows(): ...\ndef two(rows, model): ...\nasync def waits(rows): ...\ndef fine(rows, model=None): ...\n"
    )
    text = complaint(project, f"politeness: {{function: '{function}'}}")
    assert text.startswith(f"{project}/apps/shop.yaml:3: scorers.politeness")
    for part in said:
        assert part in text
    assert "fine" in read(project, "politeness: {function: 'odd:fine'}").scorers["politeness"].function


@pytest.mark.parametrize(
    ("scorer", "said"),
    [
        ("toxicity: {function: 'tone:politeness'}", "shop.yaml:3: scorers.toxicity: `toxicity` is a name of Nightshift's"),
        ("response: {function: 'tone:politeness'}", "`response` is a name of Nightshift's own; rename the scorer"),
        ("tokens: {function: 'tone:politeness'}", "`tokens` is a name of Nightshift's own; rename the scorer. Taken are bad"),
        ("heads: {function: 'tone:politeness'}", ", valid"),
        ("Polite: {function: 'tone:politeness'}", "shop.yaml:3: scorers.Polite"),
        ("a: {function: 'tone:politeness', label: exact match}", "'exact match' is the label of `exact_match` too"),
        ("a: {function: 'tone:politeness', label: <b>}", "scorers.a.label: String should match pattern"),
        ("a: {function: 'tone:politeness', kind: words}", "you wrote 'words'"),
        ("a: {function: 'tone:politeness', kind: share, max: 1}", "`min` and `max` are for numbers; a share has none"),
        ("a: {function: 'tone:politeness', label: ' '}", "scorers.a.label: String should match pattern"),
        ("a: {function: 'tone:politeness', min: .nan}", "scorers.a.min: Input should be a finite number"),
        ("a: {function: 'tone:politeness', min: 1, max: 1}", "min (1) is not below max (1)"),
        ("a: {function: 'tone:politeness', digest: abc}", "`digest` is filled in where the file is read; take it out"),
    ],
)  # fmt: skip
def test_names_labels_and_bounds_that_do_not_fit_are_refused(project, scorer, said):
    assert said in complaint(project, scorer)


def test_a_floor_may_be_that_of_an_own_scorer_and_an_unknown_one_names_the_nearest(project):
    scorer = "politeness: {function: 'tone:politeness'}"
    app = read(project, scorer, "drift:\n  metrics:\n    politeness: 0.5\n    toxicity: 0\n")
    assert app.drift.metrics == {"politeness": 0.5, "toxicity": 0}
    text = complaint(project, scorer, "drift:\n  metrics:\n    politness: 0.5\n")
    assert text == (
        f"{project}/apps/shop.yaml:6: drift.metrics.politness: there is no metric `politness`; did you mean `politeness`?"
    )
    assert "there are prompt_characters" in complaint(project, scorer, "drift: {metrics: {'{x}': 1}}\n")


def test_the_bias_report_may_name_own_scorers_whose_range_is_known(project):
    scorer = "polite: {function: 'tone:politeness', kind: share}\n  warmth: {function: 'tone:politeness', max: 2}"
    assert read(project, scorer, "bias: {metrics: [polite]}\n").bias.metrics == ["polite"]
    assert "metrics" not in read(project, scorer).bias.model_dump(mode="json")  # reports of before keep their address
    assert "bias.metrics: `warmth` is no share and lacks `min` or `max`" in complaint(
        project, scorer, "bias: {metrics: [warmth]}\n"
    )
    assert "bias.metrics: there is no own scorer `polit`; did you mean `polite`?" in complaint(
        project, scorer, "bias: {metrics: [polit]}\n"
    )


def test_apps_check_finds_a_scorer_that_is_not_there(project, capsys):
    read(project)
    (project / "compute").mkdir()
    (project / "compute/local.yaml").write_text("backend: local\n")
    assert main(["apps", "check"]) == 0
    (project / "tone.py").unlink()
    assert main(["apps", "check"]) == 65
    assert "apps/shop.yaml:3: scorers.politeness.function: there is no file" in capsys.readouterr().err


def test_the_spec_of_a_job_keeps_the_digest_and_looks_at_no_file(project):
    app = read(project)
    (project / "tone.py").unlink()
    assert type(app).model_validate_json(app.model_dump_json()) == app


def test_no_own_scorer_can_take_the_place_of_a_column():
    assert set(INTERACTION_SCHEMA.names) <= TAKEN
