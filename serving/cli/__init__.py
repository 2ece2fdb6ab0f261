"""The verbs about serving, for the `zoo` command."""
