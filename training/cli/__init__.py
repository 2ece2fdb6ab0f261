"""The verbs of the `zoo` command that belong to training; `zoo/cli` finds them by name."""
