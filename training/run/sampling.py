"""Draws text from a character language model."""

from collections.abc import Sequence

import keras
import numpy as np

from training.datasets.text import text_of

_CONTEXT = 256  # the last characters of the text so far, which the model reads before each draw


class InvalidSampling(ValueError):
    """Text cannot be drawn with these arguments."""

    exit_code = 2


def sample(
    model: keras.Model,
    vocabulary: Sequence[str],
    prompt: str | None = None,
    characters: int = 500,
    temperature: float = 0.8,
    seed: int = 0,
) -> str:
    """Draw text character by character, each given the 256 characters before it.

        p(character) = softmax(logits / temperature)

    Args:
        model: From `{"features": int32 (batch, steps), "lengths": (batch,)}` to logits (batch, steps, vocabulary).
        vocabulary: The character of each token; padding and unknown characters are never drawn.
        prompt: The text to continue, at least one character. With `None` it is a new line, or the first character of
            a vocabulary without one.
        characters: Number of characters to draw.
        temperature: Below 1, likely characters become likelier; near 0, the likeliest is always drawn.
        seed: Seed for the draws.

    Returns:
        The drawn text, without the prompt.

    Raises:
        InvalidSampling: The prompt is empty or has a character that the vocabulary lacks, or a number is not positive.
    """
    if prompt is None:
        prompt = "\n" if "\n" in vocabulary else vocabulary[2]
    if not prompt or characters < 1 or not temperature > 0:
        raise InvalidSampling(
            f"received a prompt of {len(prompt)} characters, {characters} to draw and temperature {temperature}: "
            "expected at least 1 character of each and a temperature above 0"
        )
    token_of = {text: token for token, text in enumerate(vocabulary)}
    unknown = sorted(set(prompt) - set(token_of))
    if unknown:
        raise InvalidSampling(f"the prompt has {unknown}, which the vocabulary lacks; use only {vocabulary[2:]}")
    generator = np.random.default_rng(seed)
    tokens = [token_of[character] for character in prompt]
    for _ in range(characters):
        shown = tokens[-_CONTEXT:]
        features = np.zeros((1, _CONTEXT), np.int32)
        features[0, : len(shown)] = shown
        logits = model.predict_on_batch({"features": features, "lengths": np.array([len(shown)], np.int32)})
        scaled = np.asarray(logits)[0, len(shown) - 1, 2:].astype(np.float64) / temperature
        shares = np.exp(scaled - scaled.max())
        tokens.append(2 + int(generator.choice(len(shares), p=shares / shares.sum())))
    return text_of(tokens[len(prompt) :], tuple(vocabulary))
