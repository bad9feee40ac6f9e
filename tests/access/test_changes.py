"""What a sync changes: everything that differs, in Nightshift's own roles only, told line by line."""

import pytest

from nightshift.access.changes import changes
from nightshift.access.permissions import mark, permissions, wanted_roles
from nightshift.errors import BadInput

WANTED = wanted_roles(["helpdesk"])


def told(existing):
    return [line for change in changes(WANTED, existing) for line in change.lines()]


def test_the_first_sync_makes_every_role():
    assert told({"Admin": {("can_read", "DAGs")}}) == [
        f"{role}: made, with {len(WANTED[role])} permissions" for role in sorted(WANTED)
    ]


def test_a_second_sync_changes_nothing():
    assert told(WANTED) == []


def test_what_the_files_no_longer_give_is_taken_and_what_is_missing_is_given():
    viewer = WANTED["helpdesk_viewer"]
    changed = (viewer - {("can_read", "XComs")}) | {("can_edit", "DAG:helpdesk_release")}

    assert told({**WANTED, "helpdesk_viewer": changed}) == [
        "helpdesk_viewer: + can_read on XComs",
        "helpdesk_viewer: - can_edit on DAG:helpdesk_release",
    ]


def test_a_removed_application_leaves_roles_that_may_do_nothing():
    gone = permissions("returns", "operator")

    (change,) = changes(WANTED, {**WANTED, "returns_operator": gone})

    assert (change.role, change.removed, change.added) == ("returns_operator", gone, frozenset())
    assert all(line.endswith("(this application no longer exists)") for line in change.lines())
    assert changes(WANTED, {**WANTED, "returns_operator": set()}) == []


def test_roles_that_others_made_are_left_alone_also_when_they_are_named_or_filled_alike():
    others = {
        "Viewer": {("can_read", "DAGs")},
        "returns_viewer": {("can_read", "DAG:returns_ingest")},
        "helpdesk_operator copy": WANTED["helpdesk_operator"],
        # `airflow sync-perm` gives Admin every permission that there is, the marks of other roles among them.
        "Admin": {mark("returns_viewer"), *WANTED["helpdesk_viewer"]},
    }

    assert told({**WANTED, **others}) == []


def test_a_role_of_somebody_else_under_a_wanted_name_stops_the_sync():
    with pytest.raises(BadInput, match=r"did not make: helpdesk_viewer.*nothing was changed"):
        changes(WANTED, {"helpdesk_viewer": {("can_read", "DAGs")}})


@pytest.mark.parametrize("by_fab", [set(), {("can_read", "Website")}])
def test_an_empty_role_under_a_wanted_name_is_taken_over(by_fab):
    """Such as that of an application which was removed and comes back, whatever FAB gave it meanwhile."""
    assert len(told({**WANTED, "helpdesk_viewer": by_fab})) == len(WANTED["helpdesk_viewer"] - by_fab)
