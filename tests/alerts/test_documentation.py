"""Every connection that the documentation shows is one that the channels understand."""

import json
import re
from pathlib import Path

import apprise
import pytest
import yaml
from told import application

from nightshift.settings.people import Kind

PAGE = (Path(__file__).parents[2] / "docs" / "alerts.md").read_text()
CONNECTIONS = [json.loads(text) for text in re.findall(r'`(\{"conn_type".*?\})`', PAGE)]


@pytest.mark.parametrize("connection", [one for one in CONNECTIONS if one["conn_type"] == "apprise"])
def test_apprise_understands_every_address(connection):
    assert apprise.Apprise().add(connection["extra"]["config"]["path"])


def test_every_kind_is_in_the_table_and_every_route_is_well_formed():
    assert {kind.value for kind in Kind} <= set(re.findall(r"^\| `(\w+)`", PAGE, re.MULTILINE))
    (example,) = re.findall(r"```yaml\nalerts:\n(.*?)```", PAGE, re.DOTALL)
    alerts = yaml.safe_load(example)
    assert len(application(*alerts.pop("routes"), **alerts).alerts.routes) == 4
    assert {one["conn_type"] for one in CONNECTIONS} == {"smtp", "apprise"}
