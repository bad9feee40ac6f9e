"""How well a team's own spaCy models find names and places, on sentences that were made, and how fast.

NIGHTSHIFT_NAMES='{"en": "en_core_web_lg"}' pytest -m benchmark tests/benchmarks/test_names_quality.py
"""

import json
import os
import re
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest
from faker import Faker

from nightshift.data.names import NameFinder, identity
from nightshift.data.normalise import conversation
from nightshift.data.quarantine import Row
from nightshift.settings.intake import Columns, Ingest, Names
from nightshift.settings.interval import Interval

REPORT = Path(os.environ.get("NIGHTSHIFT_BENCHMARKS") or Path(__file__).parents[2] / "build")
MODELS = json.loads(os.environ.get("NIGHTSHIFT_NAMES", "{}"))
ROWS = 1_000
NIGHT = Interval(start=datetime(2026, 11, 2, tzinfo=UTC), end=datetime(2026, 11, 3, tzinfo=UTC))
LOCALES = {"en": "en_US", "fr": "fr_FR", "de": "de_DE"}
SENTENCES = {  # half of them have nothing to find
    "en": ("My name is {person} and I am still waiting for my card.", "Please send my new card to {location}, where I live now.",
           "{person} from {location} has called about an open invoice.", "thanks, {person}", "How do I top up my card by bank transfer?",
           "The payment was declined twice, although there is enough money.", "Can I use it abroad, and what does that cost?",
           "I would like to change my PIN before Monday."),
    "fr": ("Je m'appelle {person} et j'attends toujours ma carte.", "Envoyez ma nouvelle carte à {location}, où j'habite maintenant.",
           "{person} de {location} a appelé à propos d'une facture.", "merci, {person}", "Comment recharger ma carte par virement ?",
           "Le paiement a été refusé deux fois, alors qu'il y a assez d'argent.", "Puis-je l'utiliser à l'étranger, et à quel prix ?",
           "Je voudrais changer mon code avant lundi."),
    "de": ("Ich heiße {person} und warte immer noch auf meine Karte.", "Bitte schicken Sie die neue Karte nach {location}, wo ich jetzt wohne.",
           "{person} aus {location} hat wegen einer Rechnung angerufen.", "danke, {person}", "Wie lade ich meine Karte per Überweisung auf?",
           "Die Zahlung wurde zweimal abgelehnt, obwohl genug Geld da ist.", "Kann ich sie im Ausland nutzen, und was kostet das?",
           "Ich möchte vor Montag meine PIN ändern."),
}  # fmt: skip


@pytest.mark.benchmark
@pytest.mark.skipif(not MODELS, reason="NIGHTSHIFT_NAMES names no models: run it as its first lines say")
def test_names_and_places_are_found_by_the_models_that_are_named():
    names = Names(models=MODELS)
    finder = NameFinder(names)
    lines = [
        "| model | kind | there | found exactly | no word left | found where nothing is | rows a second |",
        "| --- " * 7 + "|",
    ]
    for language in MODELS:
        faker = Faker(LOCALES[language])
        faker.seed_instance(1)
        rows, there = [], []
        for number in range(ROWS):
            values = {"person": faker.name(), "location": faker.city()}
            text = SENTENCES[language][number % 8]
            there.append({kind: value for kind, value in values.items() if f"{{{kind}}}" in text})
            row = Row(number, {"text": text.format(**values)})
            rows.append(conversation(row, Columns(prompt="text"), Ingest(), NIGHT))
        start = time.process_time()
        found = finder.redacted(rows, [language] * ROWS)
        speed = ROWS / (time.process_time() - start)
        counts = Counter()
        for number, (row, values) in enumerate(zip(found, there, strict=True)):
            template = SENTENCES[language][number % 8]
            for kind in ("person", "location"):
                if kind in values:
                    left = set(re.findall(r"\w+", values[kind])) & set(re.findall(r"\w+", row.prompt))
                    exact = row.pii.get(kind, 0) == 1 and row.prompt == re.sub(r"{(\w+)}", r"<\1>", template)
                    counts.update({(kind, "there"): 1, (kind, "exact"): exact, (kind, "gone"): not left})
                else:
                    counts[kind, "wrong"] += row.pii.get(kind, 0)
        model = identity(names)["models"][language]
        for kind in ("person", "location"):
            total = counts[kind, "there"]
            shares = " | ".join(f"{counts[kind, what] / total:.2f}" for what in ("exact", "gone"))
            lines.append(
                f"| {model['name']} {model['version']} | {kind} | {total} | {shares} | {counts[kind, 'wrong']} | {speed:,.0f} |"
            )
        assert counts["person", "gone"] > 0.5 * counts["person", "there"], language
    REPORT.mkdir(parents=True, exist_ok=True)
    (REPORT / "names_quality.md").write_text("\n".join(lines) + "\n")
