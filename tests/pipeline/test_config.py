"""The configuration: one meaning, refused as soon as it has none."""

import pytest

from training import config as config_module
from training.config import NAMED_CONFIGS, Config, ConfigError, load, validate
from zoo.models import MODELS


@pytest.mark.parametrize("path", sorted(NAMED_CONFIGS.glob("*.toml")), ids=lambda path: path.stem)
def test_every_named_config_is_valid_and_says_how_to_run_it(path):
    assert isinstance(load(path.stem), Config)
    assert f"# command:  zoo train --config {path.stem}" in path.read_text()


@pytest.mark.parametrize("name", MODELS)
def test_a_model_section_is_its_builders_signature(name):
    config = load(overrides=[f"model.name={name}"])
    assert set(config.model_arguments()) == {
        key for key, parameter in config_module.inspect.signature(MODELS[name]).parameters.items() if key != "task"
    }


def test_file_then_overrides(tmp_path):
    (tmp_path / "c.toml").write_text("seed = 3\n[model]\nunits = 7\n[optimizer]\nclipnorm = 'none'\n")
    config = load(tmp_path / "c.toml", ["model.units=9", "train.patience=none", "model.activation=leaky_relu(0.33)"])
    assert (config.seed, config.model.units, config.optimizer.clipnorm, config.train.patience) == (3, 9, None, None)
    assert config.model.activation == "leaky_relu(0.33)"


def test_flat_is_everything_and_comes_back():
    config = load(overrides=["model.units=9", "study=x"])
    nested = {}
    for key, value in config.flat().items():
        config_module._set(nested, key, value)
    assert validate(nested) == config


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model.unit=8"], "unknown config key 'model.unit'; did you mean 'model.units'"),
        (["modell.units=8"], "unknown config key 'modell'"),
        (["optimizer.clip=1"], "did you mean 'optimizer.clipnorm'"),
        (["model.name=cnn_lstm", "model.layers=2"], "unknown config key 'model.layers'"),
        (["model.units=a"], "'model.units': input should be a valid integer; received 'a'"),
        (["model.units=8.5"], "valid integer"),
        (["model.units=0"], "refuses its arguments: .*positive integer"),
        (["model.bidirectional=1"], "valid boolean"),
        (["model.name=lstn"], "'model.name': unknown model 'lstn'; did you mean 'lstm'"),
        (["dataset.name=japanese_vowel"], "did you mean 'japanese_vowels'"),
        (["model.activation=reul"], "'model.activation': unknown activation 'reul'; did you mean 'relu'"),
        (["model.engine=fast"], "unknown engine 'fast'"),
        (["dataset.validation_fraction=1"], "less than 1"),
        (["optimizer.learning_rate=-1"], "greater than 0"),
        (["optimizer.name=adamax"], "'adam', 'rmsprop' or 'sgd'"),
        (["seed=-1"], "greater than or equal to 0"),
        (["model=3"], "write a section"),
        (["seed.x=3", "seed"], "write key=value"),
        (["seed=3", "seed.x=3"], "is a value, not a section"),
    ],
)
def test_mistakes_are_named(overrides, message):
    with pytest.raises(ConfigError, match=message):
        load(overrides=overrides)


def test_mistakes_cost_no_data(monkeypatch):
    monkeypatch.setattr("training.datasets.base.Dataset.load", lambda *_: pytest.fail("data was read"))
    with pytest.raises(ConfigError):
        load(overrides=["model.dropout=2"])


def test_files_that_are_none(tmp_path):
    with pytest.raises(ConfigError, match=r"japanese_vowels_lstm"):
        load("japanese_vowels_lst")
    (tmp_path / "bad.toml").write_text("a = = 1")
    with pytest.raises(ConfigError, match="is not TOML"):
        load(tmp_path / "bad.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="is not TOML"):
        load(tmp_path / "binary.toml")
