"""Small models of random weights that embed texts or rerank passages, in folders as the hub has them."""

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

WORDS = (
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "query", "passage", ":"),
    *("a", "new", "card", "arrives", "by", "post", "when", "does", "my", "cash", "is", "free"),
)
CONFIG = {
    "vocab_size": len(WORDS), "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
    "intermediate_size": 32, "max_position_embeddings": 12,
}  # fmt: skip


def save(folder, kind=BertModel, *, seed=0, **config):
    """Write a model with its tokenizer, whose texts have 12 tokens at most."""
    torch.manual_seed(seed)
    kind(BertConfig(**CONFIG, **config)).save_pretrained(folder)
    tokenizer = Tokenizer(models.WordPiece({word: at for at, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    names = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)
    return folder
