"""Cut the Banking77 training file into the dated drops of the sample application: `build_sample.py TRAIN.csv`.

Every row is used exactly once and the same file gives the same drops. On the first four days customers write about
50 intents; then top-ups, virtual cards, paying by phone and foreign currencies are launched, with checks of identity,
and their 27 intents take a growing share.
"""

from __future__ import annotations

import csv
import random
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

TARGET = Path(__file__).parents[1] / "include" / "nightshift" / "samples" / "banking77"
FIRST_DAY = datetime(2026, 11, 2, tzinfo=UTC)
SEED = 77
LAUNCHED = {
    "automatic_top_up", "pending_top_up", "supported_cards_and_currencies", "top_up_by_bank_transfer_charge",
    "top_up_by_card_charge", "top_up_by_cash_or_cheque", "top_up_failed", "top_up_limits", "top_up_reverted",
    "topping_up_by_card", "verify_top_up",
    "disposable_card_limits", "get_disposable_virtual_card", "getting_virtual_card", "virtual_card_not_working",
    "apple_pay_or_google_pay", "contactless_not_working",
    "card_payment_wrong_exchange_rate", "exchange_charge", "exchange_rate", "exchange_via_app", "fiat_currency_support",
    "wrong_exchange_rate_for_cash_withdrawal",
    "unable_to_verify_identity", "verify_my_identity", "verify_source_of_funds", "why_verify_identity",
}  # fmt: skip
# Messages of each day, and how many of them are about what was launched. The last day takes what is left.
DAYS = [(1140, 0), (1165, 0), (1155, 0), (1140, 0), (1330, 400), (1350, 675), (1370, 905)]


def main(train: Path) -> None:
    """Write one CSV a day from the rows of `train` (columns text, category)."""
    with train.open(encoding="utf-8", newline="") as file:
        rows = [(row["text"], row["category"]) for row in csv.DictReader(file)]
    chance = random.Random(SEED)  # noqa: S311
    chance.shuffle(rows)
    launched = [row for row in rows if row[1] in LAUNCHED]
    known = [row for row in rows if row[1] not in LAUNCHED]

    TARGET.mkdir(parents=True, exist_ok=True)
    number = 0
    for day in range(len(DAYS) + 1):
        size, new = DAYS[day] if day < len(DAYS) else (len(known) + len(launched), len(launched))
        messages = [launched.pop() for _ in range(new)] + [known.pop() for _ in range(min(size - new, len(known)))]
        chance.shuffle(messages)
        midnight = FIRST_DAY + timedelta(days=day)
        # Most people write in the afternoon.
        moments = sorted(int(chance.triangular(0, 86_400, 54_000)) for _ in messages)
        with (TARGET / f"{midnight:%Y-%m-%d}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["message_id", "written_at", "text", "intent"])
            for moment, (text, category) in zip(moments, messages, strict=True):
                number += 1
                written_at = midnight + timedelta(seconds=moment)
                writer.writerow([f"m{number:05}", f"{written_at:%Y-%m-%dT%H:%M:%SZ}", text, in_words(category)])
    print(f"{number:,} messages on {len(DAYS) + 1} days in {TARGET}")


def in_words(category: str) -> str:
    """Return a category as words: `reverted_card_payment?` → `reverted card payment`."""
    return category.replace("_", " ").rstrip("?").lower()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
