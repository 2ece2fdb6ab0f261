"""The error of everything between examples and batches."""


class InvalidPipeline(ValueError):
    """An argument of the pipeline that cannot be met with these examples."""

    exit_code = 2
