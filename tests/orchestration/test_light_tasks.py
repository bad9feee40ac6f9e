"""A task that only decides costs a worker little: it loads none of the libraries that jobs are made of."""

import pytest
from light_process import HEAVY, light_process
from release_tasks import registered
from retraining_tasks import trip

MOST_MEGABYTES = 25  # above `import airflow.sdk` alone; measured: 6 to 8 for a claim, 11 for a release


@pytest.mark.slow
def test_a_release_from_its_decision_to_the_alias_loads_no_heavy_library(judged, progress, shown):
    app = registered(judged(), progress)
    took = light_process(app.name, "release")
    assert (took["said"]["version"], app.champion, app.released) == ("1", "1", ["1"])
    assert HEAVY & set(took["modules"]) == set()
    assert took["megabytes"] < MOST_MEGABYTES


def test_claiming_a_retraining_loads_no_heavy_library(storage):
    trip(storage)
    took = light_process("app")
    assert HEAVY & set(took["modules"]) == set()
    assert took["megabytes"] < MOST_MEGABYTES
