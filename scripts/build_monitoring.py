"""Writes deploy/prometheus/alerts.yaml and the dashboards in deploy/grafana/dashboards: `python scripts/build_monitoring.py`."""

from __future__ import annotations

from pathlib import Path

import yaml
from alert_rules import alert_rules
from grafana_dashboards import dashboards

DEPLOY = Path(__file__).resolve().parent.parent / "deploy"
MADE = "# Made by scripts/build_monitoring.py from scripts/alert_rules.py: change them there.\n"


def files() -> dict[Path, str]:
    """Return the content of every file, by its path."""
    rules = yaml.safe_dump(alert_rules(), sort_keys=False, width=1000, allow_unicode=True)
    made = {DEPLOY / "prometheus" / "alerts.yaml": MADE + rules}
    for name, text in dashboards().items():
        made[DEPLOY / "grafana" / "dashboards" / f"{name}.json"] = text
    return made


if __name__ == "__main__":
    for path, text in files().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        print(path)
