"""Which activations may stand in an LSTM, where, and over how many steps?

command:  zoo study activations
report:   docs/studies/activations/report.md

Seventeen conditions on four problems that ask for 8 to 150 steps of memory. "tanh" is the LSTM as everyone knows it:
tanh for the candidate and the hidden state, sigmoid for the gates. Each other condition changes one thing.
"""

from training.study import Study

CANDIDATE_AND_HIDDEN = (
    *("tanh", "relu", "relu6", "leaky_relu(0.01)", "leaky_relu(0.33)", "prelu", "hard_tanh", "elu", "silu"),
    *("penalized_tanh", "softsign"),
)
GATES = ("hard_sigmoid", "relu", "softmax", "elliott")

SMALL = ("model.units=32", "train.threads=1")
ADDING = (*SMALL, "model.head_dropout=0.0", "dataset.batch_size=50", "optimizer.learning_rate=5e-3")

STUDY = Study(
    "activations",
    conditions={
        **{name: [f"model.activation={name}"] for name in CANDIDATE_AND_HIDDEN},
        "candidate sigmoid": ["model.candidate_activation=sigmoid"],
        "hidden linear": ["model.hidden_activation=linear"],
        **{f"gates {name}": [f"model.recurrent_activation={name}"] for name in GATES},
    },
    datasets={
        "japanese_vowels": [*SMALL, "dataset.name=japanese_vowels", "train.epochs=60", "train.patience=15"],
        "digits_rows": [*SMALL, "dataset.name=digits_rows", "train.epochs=40", "train.patience=10"],
        "adding_problem/50": [*ADDING, "dataset.name=adding_problem/50", "train.epochs=40", "train.patience=12"],
        "adding_problem/150": [*ADDING, "dataset.name=adding_problem/150", "train.epochs=40", "train.patience=12"],
    },
    seeds=5,
)
