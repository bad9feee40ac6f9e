"""Render the chart with the values of every file in deploy/helm/examples, into tests/deploy/rendered (`make chart`).

Runs in the environment of `make environment-deploy`, which has Helm. The quick tests read what is rendered: without Helm they
see by its digest that it is of this chart.
"""

from __future__ import annotations

import sys
from hashlib import sha256
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CHART = ROOT / "deploy" / "helm" / "nightshift"
EXAMPLES = ROOT / "deploy" / "helm" / "examples"
RENDERED = ROOT / "tests" / "deploy" / "rendered"


def main() -> int:
    """Render every example and return an exit code."""
    RENDERED.mkdir(exist_ok=True)
    for example in sorted(EXAMPLES.glob("*.yaml")):
        path = RENDERED / example.name
        path.write_text(render(example))
        print(path.relative_to(ROOT))
    return 0


def render(example: Path) -> str:
    """Return the manifests that Helm makes of an example, after a line that says of what they are made.

    :raises Exception: the values do not fit the schema, or a template refuses them.
    """
    import yaml
    from helm_python import Chart

    with Chart.load(str(CHART)) as chart:
        values = yaml.safe_load(example.read_text())
        chart.validate_schema(values)
        files = chart.render(values=values, name="nightshift", namespace="airflow")
    texts = [text.strip().removeprefix("---").strip() for name, text in sorted(files.items()) if name.endswith(".yaml")]
    manifests = [text for text in texts if text]
    return "\n---\n".join([f"# Written by `make chart` from {digest(example)}", *manifests]) + "\n"


def digest(example: Path) -> str:
    """Return what tells whether a rendered file is of this chart and this example."""
    total = sha256(example.read_bytes())
    for path in sorted(path for path in CHART.rglob("*") if path.is_file()):
        total.update(path.read_bytes())
    return total.hexdigest()[:16]


if __name__ == "__main__":
    sys.exit(main())
