"""The vocabulary: a byte-level BPE tokenizer that writes every digit on its own, for the LLM and for the text tower."""

from __future__ import annotations

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from herovlm.demo import scenes

SPECIAL = ["<pad>", "<s>", "<unk>", "</s>", "<image>"]
PAD, BOS, UNK, EOS, IMAGE = range(5)
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message['role'].upper() }}: "
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] if part['type'] == 'image' %}<image>\n{% endfor %}"
    "{% for part in message['content'] if part['type'] == 'text' %}{{ part['text'] }}{% endfor %}{% endif %} "
    "{% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)


def prompt(question: str) -> str:
    """The words around a question, as the chat template renders them."""
    return f"USER: <image>\n{question} ASSISTANT:"


def corpus() -> list[str]:
    """Questions and answers of a few hundred training scenes."""
    first = scenes.SPLITS["train"].start
    made = [scenes.make(seed) for seed in range(first, first + 300)]
    return [f"{prompt(q.text)} {q.answer}" for scene in made for q in scene.questions] * 2 + [
        "What is there? a, and"
    ] * 20


def train() -> Tokenizer:
    """Train the BPE; every word of the questions becomes one token."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=640, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(corpus(), trainer)
    return tokenizer


def wrap(tokenizer: Tokenizer, template: str, length: int, **extra: object) -> PreTrainedTokenizerFast:
    """A transformers tokenizer that frames text by `template`, for example "<s> $A"."""
    own = Tokenizer.from_str(tokenizer.to_str())
    own.post_processor = processors.TemplateProcessing(single=template, special_tokens=[("<s>", BOS), ("</s>", EOS)])
    return PreTrainedTokenizerFast(
        tokenizer_object=own,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        model_max_length=length,
        clean_up_tokenization_spaces=False,
        **extra,
    )
