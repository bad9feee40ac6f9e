"""What a job is given when its task runs: values as they are, whatever they hold, and nothing where nothing is known."""

from types import SimpleNamespace

import pytest

from nightshift.orchestration.runtime_values import INTERVAL, form, param, result_of


def pulled(results):
    return {"ti": SimpleNamespace(xcom_pull=lambda *, task_ids: results.get(task_ids))}


@pytest.mark.parametrize(
    "value", [3, 0, 0.5, False, "None", "{{ run_id }}", "# a 'quoted' \"text\"\n", ["a", {"b": 1}]]
)
def test_a_result_reaches_the_next_job_as_it_is(value):
    assert result_of("due", "reason").resolve(pulled({"due": {"reason": value}})) == value


def test_what_a_task_did_not_say_is_not_given():
    assert result_of("due", "model").resolve(pulled({"due": {"order": 1}})) is None
    assert result_of("due", "model").resolve(pulled({})) is None


def test_a_field_of_the_form_that_was_left_empty_is_not_given():
    context = {"params": {"until": "", "epochs": 0, "method": "lora", "base": None}}
    given = {name: one.resolve(context) for name, one in form(context["params"]).items()}
    assert given == {"until": None, "epochs": 0, "method": "lora", "base": None}


def test_a_day_that_a_person_asks_for_counts_in_place_of_the_runs_own_interval():
    context = {"params": {"day": "2026-11-04"}, "data_interval_start": "s", "data_interval_end": "e"}
    assert {key: one.resolve(context) for key, one in INTERVAL.items()} == {
        "day": "2026-11-04",
        "start": None,
        "end": None,
    }
    context["params"]["day"] = None
    assert {key: one.resolve(context) for key, one in INTERVAL.items()} == {"day": None, "start": "s", "end": "e"}


def test_two_that_give_the_same_are_the_same_at_each_parse():
    assert (param("until"), str(param("until"))) == (param("until"), "<until of the form>")
    assert param("until") != param("base_model")
