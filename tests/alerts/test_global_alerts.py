"""What concerns every application: a file that cannot be read, and housekeeping."""

from datetime import UTC, datetime, timedelta

import pytest
from told import application

from nightshift.alerts.delivery import deliver
from nightshift.alerts.global_alerts import ALL_APPLICATIONS, BrokenFile, all_applications, unreadable
from nightshift.alerts.outbox import Outbox
from nightshift.settings.application import Application

NOW = datetime.now(UTC)


def broken(line, file="ingest.py"):
    return unreadable(BrokenFile(filename=file, stack_trace=f"Traceback\n  File x\n{line}\n", timestamp=NOW), now=NOW)


def test_a_file_that_breaks_in_another_way_is_news_and_another_try_to_read_it_is_not():
    assert broken("NameError: name 'y' is not defined").facts == ["NameError: name 'y' is not defined"]
    assert broken("Timeout, PID: 12").id == broken("Timeout, PID: 4711").id
    assert len({broken("NameError: y").id, broken("NameError: z").id, broken("NameError: y", "release.py").id}) == 3


def test_an_application_cannot_take_the_name_of_all():
    with pytest.raises(ValueError, match="name"):
        Application(name=ALL_APPLICATIONS, sources=application().sources)


def test_two_applications_with_one_route_hear_of_a_broken_file_once(hook, tmp_path):
    apps = [application({"to": "hook"}), application({"to": "hook", "severity": "info"}, max_an_hour=50)]
    all_of_them, box = all_applications(apps), Outbox(tmp_path.as_uri(), ALL_APPLICATIONS)
    assert all_of_them.alerts.max_an_hour == 50
    box.accept(broken("NameError: y"))
    assert deliver(all_of_them, box, seconds=60, rest_after_trouble=timedelta(0)) == {}
    (body,) = hook.taken
    assert body["title"] == "[all-applications] CRITICAL: Airflow cannot read ingest.py: its DAGs do not run"


def test_without_an_application_it_waits_in_the_mailbox(tmp_path):
    box = Outbox(tmp_path.as_uri(), ALL_APPLICATIONS)
    box.accept(broken("NameError: y"))
    assert deliver(all_applications([]), box, seconds=60, rest_after_trouble=timedelta(0)) == {}
    assert len(box.messages(10)) == 1
