"""The one description of a run: what the file, the command line and MLflow's parameters all hold."""

from training.config.validate import (
    NAMED_CONFIGS as NAMED_CONFIGS,
    Config as Config,
    ConfigError as ConfigError,
    find_dataset as find_dataset,
    load as load,
    parse as parse,
)
