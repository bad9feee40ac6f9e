"""docs/metrics.md lists the metrics and the alerts that there are, as they are."""

import re

from alert_rules import OF_ALL, OF_APPLICATION

from nightshift.jobs.running_metrics import TOLD
from nightshift.metrics.families import FAMILIES
from nightshift.settings.people import Budget
from nightshift.stack.place import CHECKOUT

DOCUMENT = (CHECKOUT / "docs/metrics.md").read_text()


def rows(first):
    """The rows of tables whose first cell begins so, as lists of cells."""
    lines = re.findall(rf"^\| (`{first}.*) \|$", DOCUMENT, re.MULTILINE)
    return [re.split(r"(?<!\\) \| ", line) for line in lines]


def test_every_metric_is_listed_with_its_labels_and_its_help():
    listed = {row[0].split("`")[1]: row for row in rows("nightshift_")}
    assert set(listed) == set(FAMILIES)
    for name, family in FAMILIES.items():
        _, labels, says = listed[name]
        assert (tuple(re.findall(r"`(\w+)`", labels)), says) == (family.labels, family.help)
        assert ("(counter)" in listed[name][0]) == (family.type == "counter") == name.endswith("_total")


def test_every_alert_is_listed_with_what_it_asks():
    listed = {row[0].strip("`"): row[1:] for row in rows("Nightshift")}
    rules = {rule.name: [rule.severity, rule.hold, f"`{rule.expr}`"] for rule in (*OF_ALL, *OF_APPLICATION)}
    assert {name: [*row[:2], row[2].replace("\\|", "|")] for name, row in listed.items()} == rules


def test_every_setting_of_the_budget_and_every_number_of_a_running_job_is_told():
    assert all(f"  {setting}: " in DOCUMENT for setting in Budget.model_fields)
    assert all(f".{name}`" in DOCUMENT for name in TOLD)


def test_names_end_with_their_unit_and_begin_with_ours():
    """Prometheus' conventions: base units in the name, `_total` of counters alone."""
    for name in FAMILIES:
        assert re.fullmatch(r"nightshift_[a-z0-9_]+", name)
        assert not re.search(r"_(ms|minutes|gb|mb|percent)$", name)
        if "timestamp" in name:
            assert name.endswith("_timestamp_seconds")
