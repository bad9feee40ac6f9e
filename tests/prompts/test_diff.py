"""`nightshift prompts diff` between files, and where it is told too little; `show` of what it compares."""

import pytest

from nightshift.cli import main
from nightshift.settings.prompt_file import read_prompt

APPLICATION = "sources: [{uri: rows.csv, columns: {prompt: text}}]\nprompt: {file: prompts/now.yaml}\n"
BEFORE = "template: |\n  <message role='system'>Be brief.</message>\n  <message role='user'>{{$prompt}}</message>\n"


@pytest.fixture
def project(tmp_path, monkeypatch):
    for name, text in {
        "apps/shop.yaml": APPLICATION, "prompts/now.yaml": BEFORE.replace("brief", "kind"), "prompts/before.yaml": BEFORE,
    }.items():  # fmt: skip
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setenv("NIGHTSHIFT_PROJECT", str(tmp_path))
    return tmp_path


def test_the_messages_of_two_files_are_compared_line_by_line(project, capsys):
    assert main(["prompts", "diff", "prompts/before.yaml", "working"]) == 0
    assert [line for line in capsys.readouterr().out.splitlines() if line[0] in "+-"] == [
        "--- prompts/before.yaml",
        "+++ shop as its file is now",
        "-Be brief.",
        "+Be kind.",
    ]
    assert main(["prompts", "diff", str(project / "prompts/now.yaml"), "working"]) == 0
    assert capsys.readouterr().out == "the prompts are the same\n"


def test_a_prompt_is_shown_as_the_file_that_says_the_same(project, capsys):
    (project / "apps/shop.yaml").write_text(APPLICATION.replace("text}", "text, metadata: [tone]}"))
    text = BEFORE.replace("Be brief.", "Be kind: {{$tone}} &lt;3\n  Überall.")
    (project / "prompts/now.yaml").write_text(text + "input_variables: [{name: tone, default: 'no'}]\n")
    assert main(["prompts", "show", "working"]) == 0
    (project / "prompts/taken.yaml").write_text(capsys.readouterr().out)
    assert main(["prompts", "diff", "prompts/taken.yaml", "working"]) == 0
    assert capsys.readouterr().out == "the prompts are the same\n"
    assert read_prompt("prompts/taken.yaml", project) == read_prompt("prompts/now.yaml", project)


def test_the_settings_of_a_prompt_are_compared_too(project, capsys):
    (project / "apps/shop.yaml").write_text(APPLICATION.replace("now.yaml", "now.yaml, system_from: application"))
    assert main(["prompts", "diff", "prompts/now.yaml", "working"]) == 0
    assert '+system_from: "application"' in capsys.readouterr().out


def test_of_a_sequence_the_step_that_changed_is_named_by_its_lines(project, capsys):
    (project / "prompts/check.yaml").write_text("template: 'Is it right? {{$prompt}}'")
    steps = "{steps: [{name: reply, file: prompts/now.yaml}, {name: check, file: prompts/check.yaml}], answer: reply}"
    (project / "apps/shop.yaml").write_text(APPLICATION.replace("{file: prompts/now.yaml}", steps))
    assert main(["prompts", "diff", "prompts/now.yaml", "working"]) == 0
    assert [line for line in capsys.readouterr().out.splitlines()[3:] if not line.startswith("-")] == [
        "+[step reply]",
        " [system]",
        " Be kind.",
        " [user]",
        " {{ prompt }}",
        "+[step check]",
        "+[user]",
        "+Is it right? {{ prompt }}",
        " [settings]",
        '+steps: [{"name": "reply", "file": {"input_variables": []}}, {"name": "check", "file": {"input_variables": []}}]',
        '+answer: "reply"',
    ]


def test_a_wrong_file_or_one_of_several_applications_is_named(project, capsys):
    assert main(["prompts", "diff", "prompts/nowhere.yaml", "working"]) == 65
    assert "there is no file" in capsys.readouterr().err
    (project / "apps/bank.yaml").write_text(APPLICATION)
    assert main(["prompts", "diff", "prompts/now.yaml", "working"]) == 65
    assert "name one with --application: there are bank, shop" in capsys.readouterr().err
    assert main(["prompts", "diff", "prompts/now.yaml", "working", "--application", "bank"]) == 0
