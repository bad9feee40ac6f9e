"""When an application's DAGs look on their own: staggered by default, as written where it is written, in its zone."""

import pytest
from pydantic import ValidationError

from nightshift.settings.application import Application
from nightshift.settings.applications import BadApplication, read_application
from nightshift.settings.clock import Clock

SOURCE = {"uri": "x.csv", "columns": {"prompt": "text"}}
TEXT = "sources:\n- uri: x.csv\n  columns: {prompt: text}\n"


def named(name, **settings):
    return Application(name=name, sources=[SOURCE], **settings)


def read(folder, lines):
    path = folder / "shop.yaml"
    path.write_text(f"{lines}\n{TEXT}")
    return read_application(path)


def test_fifty_applications_do_not_look_in_the_same_minute():
    for look, hour, first in (("finetune", 4, 30), ("drift", 5, 0), ("release", 5, 30), ("bias", 6, 0)):
        crons = [named(f"app_{number}").look(look).split() for number in range(50)]
        assert {tuple(cron[1:]) for cron in crons} == {(str(hour), "*", "*", "*")}
        minutes = [int(cron[0]) for cron in crons]
        assert all(first <= minute < first + 30 for minute in minutes)
        assert max(minutes.count(minute) for minute in minutes) <= 6


def test_an_application_always_looks_at_the_same_minute_unless_its_file_says_another():
    assert named("shop").look("drift") == named("shop", schedule="@hourly").look("drift")
    assert named("shop", clock={"drift": "09:15"}).look("drift") == "15 9 * * *"


@pytest.mark.parametrize("written", ["09:15", "'09:15'", "12:30", "'12:30'"])
def test_a_time_needs_no_quotes_in_a_file(tmp_path, written):
    """YAML reads 12:30 as a number to the base of sixty."""
    hour, minute = written.strip("'").split(":")
    assert read(tmp_path, f"clock: {{bias: {written}}}").look("bias") == f"{int(minute)} {int(hour)} * * *"


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("clock: {drift: 5}", r"shop.yaml:1: clock.drift: is no time of day such as 05:30; you wrote 5"),
        ("clock: {drift: noon}", r"clock.drift: .*you wrote 'noon'"),
        ("clock: {drift: '05:30:10'}", r"clock.drift: is no time of day"),
        ("clock: {grace_hours: -1}", r"clock.grace_hours: .*greater than or equal to 0"),
        (
            "timezone: Europe/Berln",
            r"shop.yaml:1: timezone: .* did you mean `Europe/Berlin`\?; you wrote 'Europe/Berln'",
        ),
        ("timezone: ../etc/passwd", r"timezone: is no time zone"),
    ],
)
def test_what_is_no_time_and_no_zone_is_refused(tmp_path, lines, said):
    with pytest.raises(BadApplication, match=said):
        read(tmp_path, lines)


def test_a_night_is_not_due_while_its_data_may_still_arrive():
    with pytest.raises(ValidationError, match=r"grace_hours \(4\) is shorter than arrival_hours \(12\)"):
        Clock(arrival_hours=12)
    assert Clock(arrival_hours=12, grace_hours=14).arrival_hours == 12
