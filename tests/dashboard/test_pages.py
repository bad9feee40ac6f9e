"""The pages as somebody who is logged in sees them, on storage that the package's own functions wrote."""

import json
import os
import re
from datetime import UTC, datetime, timedelta

import pytest
from stored_application import LAST, MODELS

from nightshift.alerts.alert import Alert
from nightshift.alerts.outbox import Outbox
from nightshift.dashboard import own_threads
from nightshift.dashboard.application_files import known_application
from nightshift.evaluation.shadow_file import shadow_partition
from nightshift.ledger.records import Arms, Review, Split, SplitEnd
from nightshift.ledger.reviews import keep
from nightshift.ledger.splits import next_look
from nightshift.settings.split import Split as SplitSettings

NOW = datetime.now(UTC)


def test_the_overview_says_who_fails_and_why_and_what_the_champion_scores(visit, helper):
    page = visit("/").text
    assert '<span class="badge failing">failing</span>' in page
    assert "drift of 2026-11-27 FAIL: Exact match: mean 0.9 → 0.4." in page
    assert "version 1" in page
    assert "87.0 % [83.0, 91.0]" in page
    assert "drift, 5 intervals up to 2026-11-27: 2 FAIL, 3 PASS; the last one FAIL" in page


def test_an_application_page_shows_every_night_with_its_floors_in_a_table(visit, helper):
    page = visit("/apps/helper").text
    chart = re.search(r"<figure.*?Drift: the metric that moved most.*?</figure>", page, re.S)[0]
    assert 'data-y="300' in chart  # 0.6 of a floor of 0.2
    assert "FAIL: exact match 0.6 beyond chance" in chart
    assert 'data-role="fail"' in chart
    assert chart.count("<tr data-x=") == 5
    quality = re.search(r"<figure.*?Mean exact match of the responses.*?</figure>", page, re.S)[0]
    assert "90.0 %" in quality
    assert "40.0 %" in quality


def test_own_scorers_are_drawn_and_named_as_their_application_calls_them(visit, applications, project):
    (project / "tone.py").write_text("def polite(rows): ...\n")
    own = "scorers: {polite: {function: 'tone:polite', kind: share, group: quality, label: kind words}}\n"
    app = applications("helper", more=own)
    app.interactions(LAST, means={"polite": 0.75, "toxicity": 0.1})
    app.drift(LAST, "FAIL", excess=0.6, moved="polite")
    page = visit("/apps/helper").text
    quality = re.search(r"<figure.*?Mean kind words of the responses.*?</figure>", page, re.S)[0]
    assert "75.0 %" in quality
    chart = re.search(r"<figure.*?Drift: the metric that moved most.*?</figure>", page, re.S)[0]
    assert "FAIL: kind words 0.6 beyond chance" in chart
    assert "Worst: kind words" in page
    assert '<th scope="row" role="rowheader">kind words</th>' in page
    assert "2026-11-27 FAIL · kind words" in visit("/").text


def test_an_application_page_says_why(visit, helper):
    page = visit("/apps/helper").text
    assert "What changed on 2026-11-27" in page
    assert "mean 0.9 → 0.4" in page
    assert '<td role="cell" class="num" data-label="Beyond chance">0.6</td>' in page  # what the floor is held against
    assert "where is my card?" in page
    assert "infinity" not in page.lower()


def test_a_retraining_is_told_from_its_order_to_its_outcome_with_who_and_why(visit, helper):
    helper.retraining(1, LAST, run_id="scheduled__2026-11-28T04:30:00+00:00")
    helper.snooze("olga", "we know about the fair", NOW, NOW + timedelta(days=2))
    page = visit("/apps/helper").text
    for said in (
        "interval 2026-11-27: retrain", "2 of the newest 3 intervals with a verdict failed", "order 1 registered",
        "version 2, its gate says PASS", "olga", "we know about the fair", "version 1 released",
    ):  # fmt: skip
        assert said in page
    assert "/nightshift/apps/helper/runs/helper_finetune/scheduled__2026-11-28T04%3A30%3A00%2B00%3A00" in page


def test_a_retraining_under_way_is_the_state_of_its_application(visit, helper):
    helper.retraining(1, LAST, run_id="scheduled__1", ended=False)
    assert "retraining 1 is being trained by scheduled__1" in visit("/").text


def test_nights_of_a_replaced_champion_no_longer_make_an_application_fail(visit, helper):
    helper.champion("2", score=0.9, released=datetime.now(UTC))
    page = visit("/").text
    assert '<span class="badge warning">warning</span>' in page
    assert "no interval of it has a verdict on drift yet; 2026-11-27 was FAIL with version 1" in page


def test_a_candidate_is_shown_beside_the_champion_until_it_replaces_it(visit, helper):
    helper.evaluation("2", 0.91, verdict="WARN")
    page = visit("/apps/helper").text
    assert "not decided about yet" in page
    assert "91.0 % [87.0, 95.0]" in page
    helper.champion("2", score=0.91, released=datetime.now(UTC))
    assert "none that came after the champion" in visit("/apps/helper").text


def test_an_application_without_data_says_what_comes_first(visit, applications):
    applications("fresh")
    assert "there is no champion yet: run finetune, then release" in visit("/").text
    page = visit("/apps/fresh").text
    assert "No model yet: run fresh_finetune" in page
    assert page.count("not expected yet") == 5
    assert ">fresh</span>" not in page  # of what is not there, nothing is as it should be
    assert "No interval was judged yet" in page
    assert "Nothing was decided yet." in page
    assert 'aria-label="What changed"></section>' in page  # what is empty to the last space is not shown


def test_who_has_no_application_is_told_whom_to_ask(visit, applications):
    assert "There is no application that you may see" in visit("/").text


def test_a_wrong_file_takes_no_other_application_along_and_says_which_line(visit, applications, helper):
    applications("broken", more="shedule: '@daily'\n")
    page = visit("/").text
    assert '<span class="badge unreadable">unreadable</span>' in page
    assert '<span class="badge failing">failing</span>' in page
    assert "broken.yaml:7: shedule: unknown key; did you mean `schedule`?" in visit("/apps/broken").text


def test_mlflow_that_is_down_costs_one_sentence(visit, helper):
    page = visit("/apps/helper").text
    assert "MLflow at http://127.0.0.1:5999 does not answer" in page
    assert "Exact match: mean 0.9 → 0.4." in page
    assert "Traceback" not in page


def test_a_record_that_cannot_be_read_costs_its_part_of_the_page(visit, helper, tmp_path):
    (tmp_path / "storage" / "helper" / "ledger" / "releases" / f"{MODELS['1'][:16]}.json").write_text("{")
    page = visit("/apps/helper").text
    assert "cannot be read" in page
    assert "What changed on 2026-11-27" in page
    assert "unreadable" in visit("/").text


@pytest.mark.parametrize(
    "verdict",
    [
        {"metrics": [{"metric": "exact_match", "verdict": "FAIL"}]},
        {"metrics": None},
        {"segments": [{"rows": None}]},
        [],
    ],
)
def test_a_verdict_of_another_form_costs_its_part_of_the_page(visit, helper, tmp_path, verdict):
    file = next((tmp_path / "storage" / "helper" / "drift" / str(LAST)).rglob("verdict.json"))
    file.write_text(json.dumps(verdict))
    page = visit("/apps/helper").text
    assert re.search(r'<section id="why".*?verdict\.json cannot be read', page, re.S)
    assert "87.0 % [83.0, 91.0]" in page


def test_the_shadow_of_the_newest_version_is_shown_with_its_numbers_and_its_page(visit, helper, applications):
    helper.champion(score=0.9, version="2", released=datetime.now(UTC))
    said = {
        "application": "helper", "version": "2", "champion": "1", "verdict": "PASS", "reasons": ["shadow: <b>no worse</b>"],
        "answered": 120, "prompts": 120, "metric": "exact_match", "difference": None, "margin": 0.05, "level": 0.05,
        "look": 1, "looks": 4, "means": {"exact_match": [0.4, 0.9], "cost": [None, 0.002]},
    }  # fmt: skip
    address = shadow_partition("x", known_application("helper").settings, MODELS["2"], MODELS["1"]).name
    helper.partition("shadow", "shadows", [address], {"report.html": "R", "shadow.json": json.dumps(said)})
    page = visit("/apps/helper").text
    assert "shadow: &lt;b&gt;no worse" in page
    assert re.search(r"exact match</th><td class=.num.>40.0</td><td class=.num.>90.0", page)
    assert f"/apps/helper/reports/shadows/{address}/report.html" in page
    assert visit(f"/apps/helper/raw/shadows/{address}/report.html").text == "R"
    assert "What people prefer" not in page, "nobody is asked"
    with (applications.folder / "helper.yaml").open("a") as file:
        file.write("feedback: {review: {rows: 4}}\n")
    assert "What people prefer: no data" in visit("/apps/helper").text
    for number in range(8):
        choice = Review(
            interval="2026-11-26", key=f"k{number}", digest="d", chosen="pair", version="1", good=True, shadow=address,
            candidate="2", better="candidate" if number else "champion", first="champion", by="ann", at=datetime.now(UTC),
        )  # fmt: skip
        keep(helper.ledger.home, choice)
    assert (
        "version 2 in 87.5 % of 8 pairs with a preferred one (95 % interval 52.9 % to 97.8 %)"
        in visit("/apps/helper").text
    )
    (helper.ledger.home / "reviews" / address / "damaged.json").write_text("{")
    page = visit("/apps/helper").text
    assert "damaged.json cannot be read" in page
    assert "shadow: &lt;b&gt;no worse" in page, "the rest of the panel stays"


def test_the_watch_of_a_release_says_what_was_promised_and_what_is_measured(visit, helper):
    helper.champion(score=0.9, version="2", released=datetime.now(UTC))
    said = {
        "application": "helper", "release": 2, "version": "2", "promised_by": "shadow", "intervals": ["2026-11-26", "2026-11-27"],
        "of": 3, "drifted": ["2026-11-27"], "measures": [], "margin": 0.05, "verdict": "WARN",
        "reasons": ["exact match 71.2% in 640 rows against promised 75.0% in 240: <b>"],
    }  # fmt: skip
    helper.partition("watch", "watches", ["0002", "02"], {"watch.json": json.dumps(said)})
    page = visit("/apps/helper").text
    assert "Watched: 2 of 3 intervals, 1 of them with drifted prompts" in page
    assert "71.2% in 640 rows against promised 75.0% in 240: &lt;b&gt;" in page


def test_a_replay_of_another_form_costs_its_part_of_the_page(visit, helper):
    helper.partition(
        "replay", "replay_reports", [str(LAST), "0123456789abcdef"], {"report.html": "R"}, facts={"verdict": "PASS"}
    )
    page = visit("/apps/helper").text
    assert "its manifest names no verdict with reasons" in page
    assert "What changed on 2026-11-27" in page


def test_storage_that_hangs_is_said_in_words_and_keeps_no_other_page(visit, helper, tmp_path, monkeypatch):
    pipe = tmp_path / "storage" / "helper" / "ledger" / "releases" / "ffff.json"
    os.mkfifo(pipe)  # who opens it waits for a writer
    with monkeypatch.context() as impatient:
        impatient.setattr(own_threads, "PATIENCE_SECONDS", 0.5)
        answer = visit("/apps/helper")
    assert answer.status_code == 503
    assert "Storage did not answer within" in answer.text
    assert visit("/mailbox").status_code == 200
    writer = os.open(pipe, os.O_RDWR)
    pipe.unlink()
    os.close(writer)


def test_a_night_is_told_with_the_version_that_answered_and_the_one_it_was_judged_for(visit, helper):
    helper.bias(LAST, version="2")
    assert "answers of version 1, judged for version 2" in visit("/apps/helper").text


def test_numbers_of_a_decision_can_be_told_apart(visit, helper):
    names = [
        f"exact match of the candidate compared with that of the base model, {which} end"
        for which in ("lower", "upper")
    ]
    helper.decision(LAST, numbers=dict.fromkeys(names, 0.5))
    page = visit("/apps/helper").text
    assert all(f"<dt>{name}</dt>" in page for name in names)


def test_a_right_that_was_given_is_seen_though_the_file_is_the_same(applications):
    applications("helper")
    path, stamp = applications.folder / "helper.yaml", (1, 1)
    good = path.read_text()
    for content, readable in ((good.replace("null", "nul!"), False), (good, True)):
        path.write_text(content)
        os.utime(path, ns=stamp)  # as after chmod: neither time nor size of the content say that something changed
        assert bool(known_application("helper").settings) is readable


def test_a_night_that_is_half_written_is_none_yet(visit, helper, tmp_path):
    (tmp_path / "storage" / "helper" / "drift" / "2026-11-28" / "0123456789abcdef").mkdir(parents=True)
    assert "drift of 2026-11-27 FAIL" in visit("/").text


def test_what_became_too_old_for_the_schedule_is_marked(visit, applications):
    applications("daily")
    (applications.folder / "daily.yaml").write_text(
        (applications.folder / "daily.yaml").read_text().replace("schedule: null", 'schedule: "@daily"')
    )
    page = visit("/apps/daily").text
    assert re.search(r"interactions</th>.*?stale</span> \d{4}-\d\d-\d\d is missing", page, re.S)
    assert re.search(r"interactions stale: <span class=\"small\">\d{4}-\d\d-\d\d is missing", visit("/").text)


def test_a_split_that_runs_shows_its_share_both_versions_numbers_and_what_was_decided(visit, helper):
    split = Split(
        number=1, decision="d", after=1, settings=SplitSettings(), key="k", version="2", model_digest=MODELS["2"],
        champion="1", champion_digest=MODELS["1"], started=NOW - timedelta(days=3),
    )  # fmt: skip
    found = Arms(
        evidence=1, units={"champion": 900, "challenger": 120}, means={"exact_match": {"champion": 0.8, "challenger": 0.82}},
        metric="exact_match", comparisons=1,
        differences={"exact_match": (0.02, -0.03, 0.07), "valid": (0.0, -0.01, 0.01)},
    )  # fmt: skip
    helper.ledger.create(split)
    helper.ledger.create(next_look(split, [], LAST.isoformat(), found, NOW))
    address, _ = helper.drift(LAST, version="2", interactions=f"memory://s/helper/arms/0001/{LAST}")
    page = visit("/apps/helper").text
    assert f'reports/drift/{LAST}/{address.name}/report.html">both versions in Evidently' in page
    assert "<strong>25 %</strong> of the traffic beside version 1" in page
    assert (
        "version 2 at 5% is worse by less than 5.0%, or better (exact match +2.0% [-3.0%, +7.0%], valid +0.0% [-1.0%, +1.0%])"
        in page
    )
    assert re.search(r"exact match</th><td class=\"num\">0.8</td><td class=\"num\">0.82</td>", page)
    assert "split 1: next share" in page
    for day, share in ((LAST - timedelta(days=1), 0.05), (LAST, 0.25)):
        helper.challenged(day, share)
    page = visit("/apps/helper").text
    assert 'data-role="line">champion</th><th scope="col" data-role="challenger">challenger</th>' in page
    assert re.search(
        r'data-mark="25%"><th[^>]*>2026-11-27</th><td data-y="40.0">40.0 %</td><td data-y="95.0">95.0 %', page
    )
    assert re.search(
        r'data-mark="5%"><th[^>]*>2026-11-26</th><td data-y="480.0">480</td><td data-y="24.0">24</td>', page
    )
    helper.ledger.create(
        SplitEnd(number=1, result="stopped", explanation="olga stopped it", by="olga", run_id="r", ended=NOW)
    )
    page = visit("/apps/helper").text
    assert "of the traffic beside version 1, since" not in page
    assert "split 1 stopped" in page


def test_each_fact_of_an_alert_and_what_to_do_has_a_line_of_its_own(visit, helper):
    alert = Alert(
        application="helper", kind="drift", severity="warning", title="version 1 is held back", condition="gate",
        facts=["exact match is below 50.0%", "no shadow"], todo="read the numbers",
    )  # fmt: skip
    Outbox(helper.storage, "helper").accept(alert)
    people = re.search(r'<section id="people".*?</section>', visit("/apps/helper").text, re.S)[0]
    assert "<br>exact match is below 50.0%<br>no shadow<br>What to do: read the numbers" in people.replace("\n", "")
