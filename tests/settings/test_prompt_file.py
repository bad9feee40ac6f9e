"""A prompt in a file of the project: read with the application's file, and what a person is told who writes it wrongly."""

import pytest
from pydantic import ValidationError

from nightshift.settings.application import Application
from nightshift.settings.applications import BadApplication, read_application
from nightshift.settings.prompt import Prompt

INTENT = """\
name: intent
description: Names the intent of a message.
template: |
  <message role="system">Name the intent of a {{$plan}} customer's message.</message>
  <message role="user">where is my card</message>
  <message role="assistant">card arrival</message>
  <message role="user">{{$prompt}}</message>
input_variables:
  - {name: prompt, description: the customer's message, is_required: true}
  - {name: plan, default: new}
execution_settings:
  default: {max_tokens: 12, temperature: 0}
"""
SMALLEST = """\
sources: [{uri: rows.csv, columns: {prompt: question, metadata: [plan]}}]
inference: {max_new_tokens: 12}
prompt:
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    for name in ("apps", "prompts"):
        (tmp_path / name).mkdir()
    (tmp_path / "prompts/intent.yaml").write_text(INTENT)
    monkeypatch.setenv("NIGHTSHIFT_PROJECT", str(tmp_path))
    return tmp_path


def read(project, prompt="file: prompts/intent.yaml", rest=""):
    file = project / "apps/shop.yaml"
    file.write_text(f"{SMALLEST}  {prompt}\n{rest}")
    return read_application(file)


def complaint(project, **changed):
    with pytest.raises(BadApplication) as caught:
        read(project, **changed)
    return str(caught.value)


def test_the_file_is_what_the_application_says_with_its_examples_before_the_row(project):
    prompt = read(project).prompt
    gold, asked = [("plan", "gold")], "hello {{$plan}}"
    assert prompt.system_messages(None, gold)[0]["content"] == "Name the intent of a gold customer's message."
    assert [message["content"] for message in prompt.asked(asked, gold)] == ["where is my card", "card arrival", asked]
    for row_without in (None, [], [("plan", "")]):
        assert "a new customer's" in prompt.system_messages(None, row_without)[0]["content"]


def test_a_job_is_given_the_prompt_itself_and_needs_no_file(project):
    application = read(project)
    (project / "prompts/intent.yaml").unlink()
    again = Application.model_validate_json(application.model_dump_json())
    assert again.prompt.asked("a", None) == application.prompt.asked("a", None)
    assert again.prompt.model_dump(mode="json") == application.prompt.model_dump(mode="json")
    assert hash(again.prompt) == hash(application.prompt)


def test_words_for_people_and_settings_for_others_change_no_address_and_every_word_of_the_template_does(project):
    before = read(project).prompt.model_dump(mode="json")
    file = project / "prompts/intent.yaml"
    file.write_text(INTENT.replace("Names the", "Writes the").replace("name: intent", "name: other"))
    assert read(project).prompt.model_dump(mode="json") == before
    for words in ("intent of a {{$plan}}", "default: new", "card arrival"):
        file.write_text(INTENT.replace(words, words.upper().replace("PLAN", "plan").replace("DEFAULT", "default")))
        assert read(project).prompt.model_dump(mode="json") != before
    assert Prompt().model_dump(mode="json") == {"system": None, "user": "{prompt}"}


def test_a_row_gives_its_metadata_only_where_the_prompt_takes_some(project):
    prompt, row = read(project).prompt, {"digest": "d", "metadata": [("plan", "gold"), ("place", "Rome")]}
    assert prompt.columns[-1] == "metadata"
    assert prompt.taken_from(row) == {"plan": "gold"}
    assert "metadata" not in Prompt().columns
    assert Prompt().taken_from(row) == {}


def test_a_problem_in_the_file_has_the_lines_of_both_files(project):
    file = project / "prompts/intent.yaml"
    file.write_text(INTENT.replace("{{$prompt}}", "{{$promt}}").replace("name: plan,", "nam: plan,"))
    said = complaint(project)
    assert said.startswith(f"{project}/apps/shop.yaml:4: prompt.file: {file}:3: template: its last message must hold")
    assert f"{file}:10: input_variables[1].nam: unknown key; did you mean `name`?" in said


@pytest.mark.parametrize(
    ("was", "written", "said"),
    [
        ("a {{$plan}} customer's", "a {{$prompt}} customer's", ":3: template: `prompt` is what a user typed, and stands in the"),
        ("role=\"assistant\">", "role=\"user\">", ":3: template: its messages are of system, user, user, user; one of"),
        ("name: plan", "name: plam", ":8: input_variables: the template takes `plan`, which is not among them; did you mean"),
        ("name: plan", "name: prompt", "`prompt` is there twice"),
        ("template: |", "template_format: handlebars\ntemplate: |", ":3: template_format: handlebars is a language that"),
        ("template: |", "template_format: jinja\ntemplate: |", "did you mean `jinja2`?"),
        ("template: |", "allow_dangerously_set_content: true\ntemplate: |", ":3: allow_dangerously_set_content: Input should be"),
        ("max_tokens: 12", "max_tokens: 50", "execution_settings.default.max_tokens is 50, and inference.max_new_tokens of the"),
        ("temperature: 0", "temperature: 0.7", "execution_settings.default.temperature is 0.7, and decoding.temperature"),
        ("temperature: 0", "top_k: 5", "execution_settings.default.top_k: unknown key; did you mean `top_p`?"),
        ("{{$plan}}", "{{crm.plan}}", ":3: template: {{crm.plan}}: a block holds one variable"),
        ("name: intent", "name: intent\nname: intent", "the key `name` is there twice"),
        ("name: intent\n", "- name\n", "not valid YAML"),
    ],
)  # fmt: skip
def test_a_wrong_file_says_where_it_is_wrong(project, was, written, said):
    assert was in INTENT
    (project / "prompts/intent.yaml").write_text(INTENT.replace(was, written, 1))
    assert said in complaint(project)


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        ("file: prompts/intend.yaml", "intend.yaml; did you mean `prompts/intent.yaml`?"),
        ("file: ../intent.yaml", "is no .yaml file of the project folder"),
        ("file: prompts/intent.txt", "is no .yaml file of the project folder"),
        ("{file: prompts/intent.yaml, system: Be brief.}", "`system` stands in the prompt's file; take it out here"),
        ("{file: prompts/intent.yaml, template: {plan: a}}", "a chat template takes `plan` as an argument"),
    ],
)
def test_what_the_application_says_of_the_file_is_checked(project, prompt, said):
    assert said in complaint(project, prompt=prompt)


def test_a_variable_that_no_source_fills_is_refused(project):
    (project / "prompts/intent.yaml").write_text(INTENT.replace(", default: new", ""))
    traffic = "traffic: {sources: [{name: asked, uri: asked.csv, columns: {prompt: q, metadata: [plans]}}]}\n"
    assert "`plan` is no column in `metadata` of the source 'asked'" in complaint(project, rest=traffic)
    (project / "prompts/intent.yaml").write_text(INTENT.replace("plan", "plans"))
    assert "the variable `plans` is no column in `metadata` of any source; did you mean `plan`?" in complaint(project)


def test_settings_without_a_project_name_no_file():
    with pytest.raises(ValidationError):
        Prompt(file="prompts/intent.yaml")


def test_passages_of_documents_write_no_instruction_and_need_no_column_of_their_own(project):
    documents = "retrieval: {documents: [{uri: 'faq/*.md'}]}\n"
    variables = "input_variables:\n  - {name: context}"
    taken = INTENT.replace("input_variables:", variables).replace("{{$prompt}}", "{{$context}} {{$prompt}}")
    (project / "prompts/intent.yaml").write_text(taken)
    assert "context" in read(project, rest=documents).prompt.file.variables
    assert "`context` is no column in `metadata`" in complaint(project)
    (project / "prompts/intent.yaml").write_text(taken.replace("Name the intent", "{{$context}} Name the intent"))
    assert "`context` is what documents say, and stands in the last message alone" in complaint(project, rest=documents)
