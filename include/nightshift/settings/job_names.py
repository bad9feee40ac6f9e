"""The names of all jobs, and which of them can use what a compute profile offers beyond one processor."""

JOBS = (
    "ingest", "validate", "snapshot", "train", "evaluate", "register", "shadow", "replay", "reference",
    "drift", "generate", "score", "bias", "search_plan", "search_trial", "search_result", "arms",
    "index", "feedback",
)  # fmt: skip

# They run a language model; the others would hold a GPU and not use it.
ON_GPU = frozenset(
    {"train", "evaluate", "reference", "generate", "bias", "shadow", "replay", "search_trial", "search_result"}
)
# They train a model or judge it before and after its release, for hours where models are large.
IN_TRAINING = frozenset({"train", "evaluate", "reference", "shadow", "replay", "search_trial", "search_result"})
# They divide their work over the nodes of a profile; the others run on one.
SPREAD = frozenset({"ingest", "snapshot", "train", "generate", "score"})
