"""Chat templates with the rules of the families that people train, and small tokenizers that have them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Family:
    """A template with the rules of a family (not its text), its control tokens, and how its frame ends and its turn."""

    template: str
    special: tuple[str, ...]
    before: str
    end: str
    said: tuple[str, ...] = ()
    takes_system: bool = True


TURNS = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
ALTERNATE = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate') }}{% endif %}{% endfor %}"
)
LLAMA = (
    "{% if not date_string is defined %}{% if strftime_now is defined %}{% set date_string = strftime_now('%d %b %Y') %}"
    "{% else %}{% set date_string = '26 Jul 2024' %}{% endif %}{% endif %}"
    "{% if messages[0].role == 'system' %}{% set system = messages[0].content | trim %}{% set messages = messages[1:] %}"
    "{% else %}{% set system = '' %}{% endif %}"
    "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nToday Date: {{ date_string }}\n\n{{ system }}<|eot_id|>"
    "{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n{{ m.content | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
QWEN = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}"
    "{% set content = m.content.split('</think>')[-1].lstrip('\n') %}"
    "{% if loop.last %}<think>\n\n</think>\n\n{% endif %}{{ content }}{% else %}{{ m.content }}{% endif %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
DEEPSEEK = (
    "<|begin|>{% for m in messages %}{% if m.role == 'system' %}{{ m.content }}{% elif m.role == 'user' %}<|User|>{{ m.content }}"
    "{% else %}<|Assistant|>{{ m.content.split('</think>')[-1] }}<|end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|Assistant|><think>\n{% endif %}"
)
MISTRAL = (
    "<s>{% for m in messages %}{% if m.role == 'system' %}[SYSTEM_PROMPT] {{ m.content }}[/SYSTEM_PROMPT]"
    "{% elif m.role == 'user' %}[INST] {{ m.content }}[/INST]{% else %} {{ m.content }}</s>{% endif %}{% endfor %}"
)
GEMMA = (
    "<bos>{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n{{ m.content | trim }}"
    "<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
PHI = (
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% else %}{{ eos_token }}{% endif %}"
)
IM = ("<|im_start|>", "<|im_end|>")
HEADERS = ("<|eot_id|>", "<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>")
FAMILIES = {
    "ChatML": Family(
        TURNS + "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}", IM, "<|im_start|>assistant\n", "<|im_end|>"
    ),
    "no add_generation_prompt": Family(TURNS, IM, "<|im_start|>assistant\n", "<|im_end|>"),
    "always asks": Family(TURNS + "<|im_start|>assistant\n", IM, "<|im_start|>assistant\n", "<|im_end|>"),
    "Qwen 3": Family(
        QWEN, IM, "<|im_start|>assistant\n<think>\n\n</think>\n\n", "<|im_end|>", said=("<think>", "</think>", "<tool_call>")
    ),
    "Llama 3": Family(LLAMA, HEADERS, "<|start_header_id|>assistant<|end_header_id|>\n\n", "<|eot_id|>"),
    "Mistral": Family(ALTERNATE + MISTRAL, ("</s>", "<s>", "[INST]", "[/INST]"), "[/INST]", "</s>", takes_system=False),
    "Mistral with system": Family(
        MISTRAL, ("</s>", "<s>", "[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]"), "[/INST]", "</s>"
    ),
    "Gemma": Family(
        GEMMA, ("<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>"), "<start_of_turn>model\n", "<end_of_turn>",
        takes_system=False,
    ),
    "Phi": Family(
        PHI, ("<|endoftext|>", "<|end|>", "<|user|>", "<|assistant|>", "<|system|>"), "<|assistant|>\n", "<|end|>"
    ),
    "DeepSeek distilled": Family(
        DEEPSEEK, ("<|end|>", "<|begin|>", "<|User|>", "<|Assistant|>"), "<|Assistant|>", "<|end|>", said=("<think>", "</think>")
    ),
}  # fmt: skip


def tokenizer_of(family, kind="bytes"):
    """A small tokenizer with a family's control tokens: byte-level BPE, or one that writes spaces as `▁`."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    plain = Tokenizer(models.BPE(byte_fallback=kind == "pieces"))
    if kind == "bytes":
        plain.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        plain.decoder, alphabet = decoders.ByteLevel(), pre_tokenizers.ByteLevel.alphabet()
    else:
        plain.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
        plain.decoder, alphabet = (
            decoders.Metaspace(prepend_scheme="first"),
            [chr(code) for code in range(32, 127)] + ["\n", "▁"],
        )
    trainer = trainers.BpeTrainer(
        vocab_size=len(alphabet) + 60,
        special_tokens=list(family.special),
        initial_alphabet=alphabet,
        show_progress=False,
    )
    plain.train_from_iterator(
        ["where is my card arrival", "you work for a bank", "system user assistant <|im_end|>"], trainer
    )
    plain.add_tokens([AddedToken(token, special=False, normalized=False) for token in family.said])
    eos = family.special[0] if family.special[0] not in IM else "<|im_end|>"
    fast = PreTrainedTokenizerFast(tokenizer_object=plain, eos_token=eos)
    fast.chat_template = family.template
    return fast
