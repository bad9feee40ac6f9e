"""How a candidate is trained: the section `training:` of an application, and the form that starts a training."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, WithJsonSchema, model_validator

from nightshift.settings.fields import Model, Share, omit_default


def _or_nothing(kind: str, **schema: float) -> WithJsonSchema:
    """A form offers a number or nothing; JSON Schema's `anyOf`, which pydantic would write, has no place in one."""
    return WithJsonSchema({"type": [kind, "null"], **schema})


Processes = Annotated[Annotated[int, Field(ge=1, le=64)] | None, _or_nothing("integer", minimum=1, maximum=64)]
Alpha = Annotated[
    Annotated[float, Field(gt=0, le=4096)] | None, _or_nothing("number", exclusiveMinimum=0, maximum=4096)
]
LearningRate = Annotated[float, Field(gt=0, le=1)]
SequenceLength = Annotated[int, Field(ge=16, le=131_072)]
RowsPerStep = Annotated[int, Field(ge=1, le=4096)]
RowsPerBatch = Annotated[int, Field(ge=1, le=1024)]
ZeroStage = Annotated[int, Field(ge=0, le=3)]

Recipe = Literal["sft", "dpo", "kto"]
# What each recipe learns from.
LEARNED_FROM: dict[Recipe, str] = {"sft": "examples", "dpo": "preference pairs", "kto": "judged answers"}

# Keys of DeepSpeed's configuration that follow from fields here, with the field to set instead.
DEEPSPEED_KEYS = {
    "train_batch_size": "rows_per_step",
    "train_micro_batch_size_per_gpu": "rows_per_batch",
    "gradient_accumulation_steps": "rows_per_step and rows_per_batch",
    "gradient_clipping": "gradient_clipping",
    "bf16": "precision",
    "fp16": "precision",
    "optimizer": "learning_rate and weight_decay",
    "scheduler": "learning_rate_schedule",
    "checkpoint": "checkpoint_steps",
    "zero_optimization.stage": "zero_stage",
}


class TrainingSettings(Model):
    """How a candidate is trained. Every field can be changed in the form that starts a run.

    What is left empty or `auto` is decided when the model, the data and the machine are known (`training/decide.py`).
    """

    recipe: Recipe = omit_default(
        "sft",
        description="sft: learn answers; dpo: learn from preference pairs; kto: from single answers that were judged good or "
        "bad; both start from the champion",
    )
    beta: float = omit_default(
        0.1, gt=0, le=100, description="how closely a model stays to the one that it starts from (DPO and KTO only)"
    )
    engine: Literal["auto", "short_rows", "stock"] = omit_default(
        "auto",
        description="short_rows: made for a CPU and rows of a few hundred tokens; stock: for GPUs, large models and long rows",
    )
    method: Literal["auto", "full", "lora"] = Field(
        "auto", description="train all weights, or a low-rank adapter; auto: all where they fit in memory"
    )
    lora_rank: int = Field(16, ge=1, le=512, description="rank of the adapter (LoRA only)")
    lora_alpha: Alpha = omit_default(
        None, description="scale of the adapter, over its rank (LoRA only); empty: twice the rank"
    )
    lora_dropout: float = omit_default(0.0, ge=0, lt=1, description="dropout before the adapter (LoRA only)")
    lora_targets: list[str] = omit_default(
        [],
        max_length=100,
        description="names of the layers that get an adapter, such as q_proj; empty: all linear ones",
    )
    rslora: bool = omit_default(
        False, description="scale the adapter by the square root of its rank (rank-stabilised LoRA)"
    )
    dora: bool = omit_default(False, description="train the length of the weights apart from their direction (DoRA)")
    quantize: Literal["none", "nf4"] = omit_default(
        "none", description="hold the frozen weights in 4 bits (QLoRA; LoRA on a GPU only, needs bitsandbytes)"
    )
    trained_layers: int = Field(0, ge=0, le=1000, description="train only the last so many layers; 0: the whole model")
    epochs: float = Field(1.0, gt=0, le=50, description="passes over the training set")
    learning_rate: Annotated[LearningRate | None, _or_nothing("number", exclusiveMinimum=0, maximum=1)] = Field(
        None, description="peak learning rate; empty: by method and size of the model"
    )
    learning_rate_schedule: Literal["cosine", "wsd", "linear", "constant"] = omit_default(
        "cosine",
        description="how the rate falls after the warm-up; wsd: stays, and falls over the last fifth of the steps",
    )
    warmup_share: Share = Field(0.1, description="share of the steps that warm up")
    weight_decay: float = Field(0.0, ge=0, le=1, description="decoupled weight decay (AdamW); 0: none")
    gradient_clipping: float = Field(1.0, gt=0, le=100, description="largest norm of the gradient of one step")
    early_stopping: int = omit_default(
        0,
        ge=0,
        le=1000,
        description="end after so many held-out losses in a row above the lowest, with the weights of the lowest; 0: never",
    )
    loss_on: Literal["last_answer", "all_answers"] = omit_default(
        "last_answer", description="which assistant turns of a conversation are learned"
    )
    sequence_length: Annotated[SequenceLength | None, _or_nothing("integer", minimum=16, maximum=131_072)] = Field(
        None, description="tokens in one packed row; empty: by the lengths of the examples"
    )
    too_long: Literal["leave_out", "cut"] = omit_default(
        "leave_out", description="an example longer than a row: left out, or without the oldest tokens of its prompt"
    )
    rows_per_step: Annotated[RowsPerStep | None, _or_nothing("integer", minimum=1, maximum=4096)] = Field(
        None, description="packed rows in one optimiser step, over all processes; empty: by the number of examples"
    )
    rows_per_batch: Annotated[RowsPerBatch | None, _or_nothing("integer", minimum=1, maximum=1024)] = Field(
        None, description="most packed rows in one forward pass of one process; empty: what fits in memory"
    )
    attention: Literal["auto", "sdpa", "flash_attention_2", "flash_attention_3"] = omit_default(
        "auto", description="kernel of the stock engine; auto: the newest FlashAttention that is installed, else sdpa"
    )
    gradient_checkpointing: Literal["auto", "full", "none"] = omit_default(
        "auto", description="compute each layer twice instead of holding its activations (stock engine)"
    )
    torch_compile: bool = omit_default(False, description="compile the model with torch.compile (stock engine)")
    zero_stage: Annotated[ZeroStage | None, _or_nothing("integer", minimum=0, maximum=3)] = Field(
        None,
        description="DeepSpeed ZeRO stage: what processes share instead of each holding it; empty: the lowest that fits",
    )
    offload: Literal["none", "optimizer", "all"] = Field("none", description="what ZeRO keeps in CPU memory")
    deepspeed: dict[str, Any] = omit_default(
        {}, max_length=100, description="more of DeepSpeed's configuration, as it is"
    )
    precision: Literal["auto", "bf16", "fp16", "fp32"] = Field(
        "auto", description="auto: bf16 where the GPU or processor multiplies it, else fp32; fp16 needs a GPU"
    )
    processes: Processes = Field(None, description="processes on each node; empty: one per GPU, or one without")
    evaluate_steps: int = Field(25, ge=1, description="steps between two measurements of the held-out loss")
    checkpoint_steps: int = Field(50, ge=1, description="steps between two checkpoints")
    seed: int = Field(17, ge=0, le=2**31 - 1, description="of the order of rows and of new weights")
    window_days: int = Field(30, ge=1, le=3650, description="days of examples to train on, up to the newest")
    min_examples: int = Field(100, ge=1, description="fewer training examples than this are refused")

    @property
    def together(self) -> int:
        """How many examples stand in one row as one: both answers of a pair, or a judged answer and an unrelated one."""
        return 1 if self.recipe == "sft" else 2

    @property
    def only_stock(self) -> str | None:
        """The first field with a value that only the stock engine knows."""
        given = {
            "quantize": self.quantize != "none",
            "attention": self.attention != "auto",
            "gradient_checkpointing": self.gradient_checkpointing == "full",
            "torch_compile": self.torch_compile,
        }
        return next((name for name, is_given in given.items() if is_given), None)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.processes and self.rows_per_step and self.rows_per_step % self.processes:
            raise ValueError(f"rows_per_step ({self.rows_per_step}) must be a multiple of processes ({self.processes})")
        needed = {"none": 0, "optimizer": 1, "all": 3}[self.offload]
        if self.zero_stage is not None and self.zero_stage < needed:
            raise ValueError(f"offload: {self.offload} needs zero_stage {needed} or above, not {self.zero_stage}")
        if self.engine == "short_rows" and self.only_stock:
            raise ValueError(f"{self.only_stock} is for engine: stock, not short_rows")
        if self.quantize != "none" and self.method == "full":
            raise ValueError(f"quantize: {self.quantize} holds frozen weights and needs method: lora")
        return self

    @model_validator(mode="after")
    def _can_learn_preferences(self) -> Self:
        if self.recipe == "sft":
            return self
        if self.zero_stage == 3:
            raise ValueError(
                f"recipe: {self.recipe} measures its reference before weights are shared; it needs zero_stage 2 or below"
            )
        if self.too_long == "cut":
            raise ValueError(f"recipe: {self.recipe} compares whole answers; it needs too_long: leave_out")
        if self.loss_on == "all_answers":
            raise ValueError(f"recipe: {self.recipe} compares last answers; it needs loss_on: last_answer")
        return self

    @model_validator(mode="after")
    def _sets_deepspeed_once(self) -> Self:
        for key, field in DEEPSPEED_KEYS.items():
            section, _, inner = key.partition(".")
            there = self.deepspeed.get(section, {}) if inner else self.deepspeed
            if isinstance(there, dict) and (inner or section) in there:
                raise ValueError(f"deepspeed: {key} follows from other settings; set training.{field} instead")
        return self


class Training(TrainingSettings):
    """How a training is done: nothing is left to be decided by the size of the model, the data or the machine."""

    method: Literal["full", "lora"] = "full"
    learning_rate: LearningRate = 2e-4
    sequence_length: SequenceLength = 256
    rows_per_step: RowsPerStep = 4
    rows_per_batch: RowsPerBatch = 4
    zero_stage: ZeroStage = 0
