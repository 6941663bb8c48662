"""Language models from scratch: a small Llama or GPT-2 with seeded weights and a tokenizer trained on the catalogue's words.

They know nothing but what they are trained on here. `tiny` is for tests and for trying; `small` is what a published row
trained from scratch is made with.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from baselines.training import seeded

Shape = Literal["llama", "gpt2"]

BOS, EOS, PAD = "<s>", "</s>", "<pad>"
TURNS = ("<|system|>", "<|user|>", "<|assistant|>")
CONTEXT = 1024
# Letters of a fixed part of prompts that is worth a token.
SHORTEST = 3
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<|{{ message.role }}|>{{ message.content }}"
    "{% if message.role == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


@dataclass(frozen=True)
class Size:
    """Width of the hidden states, blocks, attention heads, and the most entries of the vocabulary."""

    hidden: int
    layers: int
    heads: int
    vocabulary: int


# About 0.7 and 7 million parameters.
SIZES = {"tiny": Size(128, 2, 4, 2048), "small": Size(256, 6, 8, 8192)}


def train_tokenizer(texts: Iterable[str], vocabulary: int, units: Iterable[str] = ()) -> Any:
    """A byte-level BPE with bos, eos, pad and one token for each role of a chat, trained on `texts`.

    Each of `units` is a token besides: what is always said in the same words. A model that begins at random has to learn
    from as little as a catalogue's events, and every token that it need not spell saves time and something to learn.

    Args:
        texts: what the pieces are learned from.
        vocabulary: most pieces.
        units: strings that become one token each, which stand for themselves in decoding as well.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[PAD, BOS, EOS, *TURNS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    # A title that is a word alone, such as "It", is none within other words.
    tokenizer.add_tokens(
        [
            AddedToken(unit, single_word=unit[0].isalnum() and unit[-1].isalnum(), normalized=False)
            for unit in sorted({unit for unit in units if unit})
        ]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        extra_special_tokens=list(TURNS),
        padding_side="left",
        chat_template=CHAT_TEMPLATE,
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )


def fixed_parts(texts: Iterable[str], data: Iterable[str]) -> list[str]:
    """What texts say in any case: the parts that are left where the strings `data` and numbers are cut out of them."""
    cut = "|".join(re.escape(each) for each in sorted(data, key=len, reverse=True) if each)
    found = {part for text in texts for part in re.split(f"{cut}|[0-9]+", text)}
    return sorted(part for part in found if len(part) >= SHORTEST)


def build(shape: Shape, size: Size, tokenizer: Any, seed: int) -> Any:
    """A causal language model with random weights, tied input and output embeddings; the same seed gives the same weights."""
    from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

    own = {
        "vocab_size": len(tokenizer),
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "tie_word_embeddings": True,
        # The .02 of large models is made for a width of thousands: here it would leave attention without a signal to learn
        # from, and a request unheard for thousands of updates.
        "initializer_range": size.hidden**-0.5,
    }
    with seeded(seed, "language model", shape):
        if shape == "gpt2":
            # Llama has none either; with GPT-2's tenth of everything a request is heard later (README, LANCER).
            still = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
            return GPT2LMHeadModel(
                GPT2Config(
                    n_embd=size.hidden, n_layer=size.layers, n_head=size.heads, n_positions=CONTEXT, **own, **still
                )
            )
        return LlamaForCausalLM(
            LlamaConfig(
                hidden_size=size.hidden,
                intermediate_size=size.hidden * 8 // 3,
                num_hidden_layers=size.layers,
                num_attention_heads=size.heads,
                max_position_embeddings=CONTEXT,
                **own,
            )
        )
