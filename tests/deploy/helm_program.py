"""A program for the environment that has Helm, which several tests run there."""

# Renders with each of the given values, and prints what came of it.
HELM = """
import json, sys
from helm_python import Chart, chart
print(json.dumps({"lint": chart.lint(sys.argv[1], values=json.loads(sys.argv[2])[0])}, default=str))
for values in json.loads(sys.argv[2]):
    with Chart.load(sys.argv[1]) as loaded:
        try:
            loaded.validate_schema(values)
            out = loaded.render(values=values, name="nightshift", namespace="airflow")
            print(json.dumps({"files": out}))
        except Exception as error:
            print(json.dumps({"refused": str(error)}))
"""
