"""The model card of a registered version: training data, scores, and limits."""

from __future__ import annotations

from typing import Any

from nightshift.settings.application import Application
from nightshift.settings.pinned_index import CONTEXT
from nightshift.training.built_in import PREPARED

LONGEST = 5_000  # characters that MLflow keeps as a version's description
LICENCES = dict.fromkeys(PREPARED, "apache-2.0")


def model_card(
    application: Application,
    *,
    base_model: str,
    digest: str,
    days: list[str],
    counts: dict[str, int],
    training: dict[str, Any] | None,
    scores: dict[str, dict[str, dict[str, float]]],
    verdict: str,
    reasons: list[str],
    search: str = "",
) -> str:
    """Return the card as Markdown without front matter, at most 5,000 characters.

    :param days: interval keys of the snapshot; `counts` are its manifest's.
    :param training: the training settings; None for a model at an endpoint, which `base_model` names.
    :param scores: role -> metric -> {value, low, high}.
    :param search: the search that found the version, as Markdown; it comes last, and is cut first.
    """
    licence = licence_of(base_model)
    names = application.ingest.names
    redacted = [*application.ingest.redact, *(names.kinds if names else [])]
    made = f"Nothing was trained here: answers come from {base_model}, whose terms apply."
    if training is not None:
        unused = {"lora_rank"} if training.get("method") == "full" else set()
        settings = ", ".join(f"{name} {value}" for name, value in training.items() if name not in unused)
        made = f"Fine-tuned from `{base_model}` (licence: {licence}). {settings}".rstrip()
    span = f"{days[0]} to {days[-1]}" if days else "unknown days"
    sections = [
        f"# {application.name}: {digest[:12]}",
        application.description,
        f"**{verdict}** — " + "; ".join(reasons),
        _table(scores),
        "Scores are of 100 (loss: nats per token), with 95 % bootstrap intervals over held-out examples that no training "
        "row resembles.",
        "## Data",
        f"{counts.get('train', 0):,} examples of {len(days)} partitions ({span}); {counts.get('held_out', 0):,} held out, "
        f"after {counts.get('seen_in_training', 0):,} were removed because the split map has them on another side. "
        "Personal data of the kinds "
        f"{', '.join(redacted) or '(none)'} was replaced by placeholders before training.",
        "## Training",
        made,
        "" if training is None else _serving(application),
        "## Use and limits",
        f"Made for one task: {application.description or application.name} It was judged on text like its training "
        "data and on nothing else: other languages, other tasks, attacks and unfair treatment of groups were not "
        "measured. It answers with confidence whether or not it knows. The licence of the base model applies to it.",
        f"Owner: {application.owner}",
        search and f"## Search\n\n{search}",
    ]
    return "\n\n".join(section for section in sections if section)[:LONGEST]


def front_matter(application: Application, base_model: str) -> str:
    """Return the YAML head that model cards of the Hugging Face hub begin with."""
    licence = licence_of(base_model)
    return (
        f"---\nlicense: {licence if licence != 'unknown' else 'other'}\npipeline_tag: text-generation\n"
        f"tags: [nightshift, {application.name}]\n---\n\n"
    )


def licence_of(base_model: str) -> str:
    """Return the licence of a base model by its SPDX-like name, or `unknown`."""
    return LICENCES.get(base_model, "unknown")


def without_passages(application: Application) -> str:
    """Return what an exported copy of a version with an index lacks, and how to provide it; "" without an index."""
    index, prompt = application.index, application.prompt
    if index is None:
        return ""
    where = (
        "before the last question, behind the sentence that docs/retrieval.md of Nightshift quotes"
        if all(CONTEXT not in file.variables for file in prompt.files.values())
        else f"as `chat_template_kwargs: {{{CONTEXT}: ...}}`, in a server that takes these (vLLM does, MLflow's own does not)"
    )
    return (
        f"This copy retrieves nothing. The answers that were judged rest on up to {index.k} passages of the index "
        f"`{index.digest[:12]}` for each question, found by `{index.search}`; without them it answers from its weights "
        f"alone, which nobody judged. Whoever serves it finds the passages and gives them {where}, each as `[1] title`, with its "
        "text below."
    )


def _serving(application: Application) -> str:
    """How to serve the weights so that they give the evaluated answers."""
    if steps := application.prompt.steps:
        names = ", ".join(f"`{step.name}`" for step in steps)
        return f"It answers in the steps {names}. No chat template does that: a server of this copy refuses to answer."
    passages = without_passages(application)
    carried = (
        "The chat template writes the application's prompt around what it is given, and the generation config has its decoding "
        f"settings: a server that applies both{' and is given passages' if passages else ''} gives the answers that were judged."
    )
    if left := ", ".join(f"`{name}`" for name in application.decoding.left_to_servers):
        carried += f" It must set by itself: {left}."
    return f"{carried}\n\n{passages}".rstrip()


def _table(scores: dict[str, dict[str, dict[str, float]]]) -> str:
    metrics = [
        ("exact_match", "exact match", 100),
        ("rouge_l", "ROUGE-L", 100),
        ("chrf", "chrF", 100),
        ("loss", "loss", 1),
    ]
    roles = [role for role, measured in scores.items() if measured]
    if not roles:
        return ""
    lines = [f"| | {' | '.join(roles)} |", f"|---|{'---|' * len(roles)}"]
    for metric, title, factor in metrics:
        if metric not in scores[roles[0]]:
            continue  # no example that all models could read
        digits = 1 if factor == 100 else 3
        cells = [
            "{value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]".format(
                digits=digits, **{name: number * factor for name, number in scores[role][metric].items()}
            )
            for role in roles
        ]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(lines)
