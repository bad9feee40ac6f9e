"""What Airflow remembers of the log is the newest anchor of each storage, and nobody's edit of it passes unnoticed."""

import json
from datetime import timedelta

import pytest
from audit_logs import KEY, NOW, PUBLIC, anchor_end, event, memory, written

from nightshift.audit.verify import verify
from nightshift.errors import BadEnvironment


def test_only_the_newest_anchor_is_remembered_and_it_is_signed(tmp_path):
    chain, variables = written(tmp_path.as_uri(), (2,)), {}
    for hour in range(1, 4):
        moment = NOW + timedelta(hours=hour)
        chain.append("airflow", [event(20 + hour, at=moment)], moment)
        anchor_end(chain, memory(variables), moment, KEY)
    kept, wrong = memory(variables).every()
    assert ([anchor.count for anchor in kept], wrong) == ([10], [])
    found = verify(chain, kept, trusted=frozenset({PUBLIC}))
    assert (found.problems, found.witnesses, found.anchored) == ([], {"Airflow"}, 10)


def test_each_storage_is_remembered_also_while_another_one_is_used(tmp_path):
    variables = {}
    chains = [written((tmp_path / name).as_uri(), (size,)) for name, size in (("one", 2), ("other", 4))]
    for chain in (*chains, chains[0]):
        anchor_end(chain, memory(variables), NOW)
    assert [memory(variables).newest(chain.id(), chain.storage).count for chain in chains] == [4, 6]
    assert memory(variables).newest("", "s3://elsewhere") is None


@pytest.mark.parametrize("value", ["", "{}", "[{}]", '["x"]'])
def test_a_variable_that_somebody_edited_is_no_empty_memory(tmp_path, value):
    chain, variables = written(tmp_path.as_uri(), (2,)), {"newest": value}
    with pytest.raises(BadEnvironment, match="the Airflow variable nightshift_audit_newest was edited"):
        anchor_end(chain, memory(variables), NOW)
    assert variables == {"newest": value}
    (wrong,) = memory(variables).every()[1]
    assert "was edited" in wrong


def test_an_anchor_that_somebody_edited_does_not_fit_its_signature(tmp_path):
    chain, variables = written(tmp_path.as_uri(), (2,)), {}
    anchor_end(chain, memory(variables), NOW, KEY)
    (anchor,) = json.loads(variables["newest"])
    variables["newest"] = json.dumps([{**anchor, "previous": 3}])
    kept, _ = memory(variables).every()
    assert any("the anchor was edited" in problem for problem in verify(chain, kept).problems)
