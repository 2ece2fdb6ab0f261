"""What cures an LSTM that diverges for its activation: clipping, smaller rates, bounds, initialisation, normalisation?

command:  zoo study remedies
report:   docs/studies/remedies/report.md

The ReLU LSTM and the LSTM with ReLU gates, which diverge on the adding problem in the study `activations`, each as they
were there and with one remedy at a time; "tanh" is what they are to be as good as.
"""

from training.study import Study

ADDING = (  # as in `activations`
    *("model.units=32", "model.head_dropout=0.0", "dataset.batch_size=50", "optimizer.learning_rate=5e-3"),
    *("train.threads=1", "train.epochs=40", "train.patience=12"),
)
REMEDIES = {
    "": [],
    ", no clipping": ["optimizer.clipnorm=none"],
    ", rate 1e-3": ["optimizer.learning_rate=1e-3"],
    ", rate 1e-4": ["optimizer.learning_rate=1e-4"],
    ", cell bound 10": ["model.cell_clip=10.0"],
    ", chrono": ["model.chrono_steps=150"],
    # Keras's loop runs it, and XLA halves what that takes.
    ", layer norm": ["model.cell=layer_norm", "train.jit_compile=true"],
    ", recurrent batch norm": ["model.cell=batch_norm", "model.max_steps=150"],
}
FAILING = {"relu": "model.activation=relu", "gates relu": "model.recurrent_activation=relu"}

STUDY = Study(
    "remedies",
    conditions={
        "tanh": ["model.activation=tanh"],
        **{
            f"{name}{remedy}": [activation, *overrides]
            for name, activation in FAILING.items()
            for remedy, overrides in REMEDIES.items()
        },
    },
    datasets={f"adding_problem/{steps}": [*ADDING, f"dataset.name=adding_problem/{steps}"] for steps in (50, 150)},
    seeds=5,
)
