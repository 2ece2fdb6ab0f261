"""The zoo's LSTM in a Keras model of your own: no configuration, no tracker, nothing but Keras.

    python examples/train_plain_keras.py

Sums of short sequences are classified by sign; a ReLU candidate with sigmoid gates learns it in a few epochs.
"""

import keras
import numpy as np

from zoo.layers import LSTM


def data(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(count, 12, 2)).astype("float32")
    return features, (features.sum(axis=(1, 2)) > 0).astype("int32")


def main() -> float:
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((None, 2)),
            LSTM(16, activation="relu", forget_gate_activation="hard_sigmoid"),
            keras.layers.Dense(1, activation="sigmoid"),
        ]
    )
    model.compile("adam", "binary_crossentropy", metrics=["accuracy"])
    model.fit(*data(1024, seed=1), validation_split=0.2, epochs=8, batch_size=32, verbose=2)
    _, accuracy = model.evaluate(*data(256, seed=2), verbose=0)
    print(f"accuracy on new sequences: {accuracy:.3f}")
    return float(accuracy)


if __name__ == "__main__":
    main()
