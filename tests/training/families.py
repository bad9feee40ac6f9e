"""Random language models of a few thousand parameters, one of each family whose code differs."""

SIZES = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
GROUPED = {**SIZES, "num_key_value_heads": 2}
FAMILIES = {
    "llama": GROUPED,
    "qwen2": GROUPED,
    "qwen3": {**GROUPED, "head_dim": 16},
    "mistral": {**GROUPED, "sliding_window": 4096},
    "gemma3_text": {**GROUPED, "head_dim": 16, "sliding_window": 512},
    "phi": SIZES,
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 512,
             "attn_pdrop": 0.0, "resid_pdrop": 0.0, "embd_pdrop": 0.0},
}  # fmt: skip
ENDS = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}


def family(name, vocabulary, **more):
    """Return a random model in fp32."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    config = AutoConfig.for_model(name, vocab_size=vocabulary, **{**FAMILIES.get(name, GROUPED), **ENDS, **more})
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation="eager")
