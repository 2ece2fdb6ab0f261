import numpy as np
import pytest

from training.run.sampling import InvalidSampling, sample

VOCABULARY = ("", "[UNK]", "a", "b", "c")


class Cycle:
    """Knows that b follows a, c follows b and a follows c, with so much certainty."""

    def __init__(self, certainty):
        self.certainty = certainty

    def predict_on_batch(self, inputs):
        following = {2: 3, 3: 4, 4: 2}
        logits = np.zeros((*inputs["features"].shape, 5), "float32")
        for step, token in enumerate(inputs["features"][0, : inputs["lengths"][0]]):
            logits[0, step, following[int(token)]] = self.certainty
        logits[:, :, :2] = 100  # padding and the unknown are never drawn
        return logits


def test_it_draws_what_the_model_says():
    assert sample(Cycle(50.0), VOCABULARY, "a", 7) == "bcabcab"
    assert sample(Cycle(50.0), VOCABULARY, "abcab", 300) == ("cab" * 100)  # longer than what the model is shown


def test_temperature_and_seed():
    drawn = [sample(Cycle(2.0), VOCABULARY, "a", 60, temperature=t, seed=1) for t in (1e-3, 1.0, 100.0)]
    assert drawn[0] == "bca" * 20
    right = ["".join(text).count("ab") for text in drawn]
    assert right[0] > right[1] > right[2]
    assert sample(Cycle(0.0), VOCABULARY, "a", 60, seed=1) != sample(Cycle(0.0), VOCABULARY, "a", 60, seed=2)


@pytest.mark.parametrize(
    "arguments",
    [{"prompt": ""}, {"characters": 0}, {"temperature": 0.0}, {"temperature": float("nan")}, {"prompt": "ax"}],
)
def test_what_cannot_be_drawn_is_refused(arguments):
    with pytest.raises(InvalidSampling):
        sample(Cycle(1.0), VOCABULARY, **arguments)
