"""The configuration of a run, shared by files, the command line and MLflow's parameters."""

from training.config.validate import (
    NAMED_CONFIGS as NAMED_CONFIGS,
    Config as Config,
    ConfigError as ConfigError,
    find_dataset as find_dataset,
    load as load,
    parse as parse,
)
