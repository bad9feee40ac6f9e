"""Evaluations of answers that call tools, by a language model small enough for a test."""

import json
import shutil

import pytest

from nightshift.evaluation.answers import EvaluatedModel, answers_to
from nightshift.settings.application import Application
from nightshift.settings.intake import Source

ASKED = {"role": "user", "content": "Is it warm?"}


@pytest.mark.slow
def test_a_wanted_call_of_a_tool_is_compared_as_the_template_writes_it(storage, tmp_path, tiny_models):
    folder = tmp_path / "model"
    shutil.copytree(tiny_models.random, folder)
    (folder / "chat_template.jinja").write_text(
        "{% for m in messages %}<|start|>{{ m.role }}\n{{ m.content }}"
        "{% for c in m.tool_calls %}<call>{{ c.function | tojson }}</call>{% endfor %}<|end|>\n{% endfor %}"
    )
    function = {"name": "weather", "arguments": {"city": "Rome"}}
    stored = json.dumps([{"id": "call00001", "type": "function", "function": function}])
    said = {"role": "assistant", "content": ""}
    rows = [
        {"digest": "a", "messages": [ASKED, said | {"tool_calls": stored}], "prompt": "Warm?", "answer": stored},
        {"digest": "b", "messages": [ASKED, said | {"content": "No."}], "prompt": "Warm?", "answer": "No."},
    ]
    application = Application(name="app", sources=[Source(uri="x.jsonl", layout="openai")])
    asked = EvaluatedModel("base", "tiny", "d", application, lambda _work: folder)
    table = answers_to(asked, rows, storage, lambda _done, _of: None).table
    assert table["wanted"].to_pylist() == [f"<call>{json.dumps(function)}</call>", "No."]
