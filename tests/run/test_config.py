"""The configuration: one meaning, refused as soon as it has none."""

import ast
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import keras
import pytest

import training
from training.config import NAMED_CONFIGS, Config, ConfigError, load, parse
from training.config.schema import model_section
from training.config.validate import _set
from training.train import check_model
from zoo.models import MODELS


@pytest.mark.parametrize("path", sorted(NAMED_CONFIGS.glob("*.toml")), ids=lambda path: path.stem)
def test_every_named_config_is_valid_and_says_how_to_run_it(path):
    assert isinstance(check_model(load(path.stem)), Config)
    assert f"# command:  zoo train --config {path.stem}" in path.read_text()


@pytest.mark.parametrize("name", MODELS)
def test_a_model_section_is_its_builders_signature(name):
    config = load(overrides=[f"model.name={name}"])
    assert set(config.model_arguments()) == {
        key for key, parameter in inspect.signature(MODELS[name]).parameters.items() if key != "task"
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
        _set(nested, key, value)
    assert parse(nested) == config


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model.unit=8"], "unknown config key 'model.unit'; did you mean 'model.units'"),
        (["modell.units=8"], "unknown config key 'modell.units'; did you mean 'model.units'"),
        # A key of another section, or of none, is offered by the name of its last part.
        (["training.epochs=8"], "unknown config key 'training.epochs'; did you mean 'train.epochs'"),
        (["epochs=8"], "unknown config key 'epochs'; did you mean 'train.epochs'"),
        (["model.learning_rate=1"], "unknown config key 'model.learning_rate'; did you mean 'optimizer.learning_rate'"),
        (["dataset.path=x.csv", "task=forecasting"], "unknown config key 'task'; did you mean 'dataset.task'"),
        (["epoch=8"], "did you mean 'train.epochs'"),
        (["model.unit=8", "trian.epochs=3"], "'model.unit'; did you mean 'model.units'.*'trian.epochs'; did you mean"),
        (["train=8"], "config key 'train' is a section: write train.epochs=...; received 8"),
        (["seed.first=8"], "config key 'seed' is a value, not a section"),
        (["model.name=[1]"], r"'model.name': unknown model \[1\]"),
        (["model.activation=leaky_relu(x)"], r"activation 'leaky_relu\(x\)' is not understood; write a name"),
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
        (["optimizer.name=adamax"], "'adam', 'adamw', 'rmsprop' or 'sgd'"),
        (["optimizer.learning_rate=inf"], "finite number; received inf"),
        (["optimizer.momentum=0.9"], "'optimizer.momentum' is for sgd and rmsprop, not for adam; received 0.9"),
        (["optimizer.momentum=1"], "less than 1"),
        (["optimizer.name=adamw"], "'optimizer.weight_decay' must be more than 0 for adamw; .*received 0.0"),
        (["optimizer.clipvalue=0.5"], "needs optimizer.clipnorm=none, .* clipnorm is 1.0; received 0.5"),
        (["optimizer.schedule=step"], "'optimizer.schedule': input should be 'constant', 'cosine', 'linear' or"),
        (["optimizer.warmup_epochs=3", "train.epochs=3"], "less than train.epochs, which is 3; received 3.0"),
        (["optimizer.final_share=0.1"], "needs a learning rate that falls: .*received 0.1"),
        (["optimizer.final_share=0", "optimizer.schedule=exponential"], "must be more than 0 for an exponential"),
        (["train.precision=float16"], "'float32', 'mixed_bfloat16' or 'mixed_float16'"),
        (["train.label_smoothing=1"], "less than 1"),
        (["train.label_smoothing=0.1", "dataset.name=adding_problem"], "a regression has none: .*received 0.1"),
        (["train.threads=0"], "'train.threads': input should be greater than or equal to 1"),
        (
            ["model.cell=projection", "model.identity_recurrent=1"],
            "without square blocks.*received identity_recurrent=1",
        ),
        (["seed=-1"], "greater than or equal to 0"),
        (["model=3"], "is a section: write model.name="),
        (["seed.x=3", "seed"], "write key=value"),
        (["seed=3", "seed.x=3"], "is a value, not a section"),
    ],
)
def test_mistakes_are_named(overrides, message):
    with pytest.raises(ConfigError, match=message):
        check_model(load(overrides=overrides))


def test_remedies_go_together():
    text = (
        "optimizer.name=sgd optimizer.momentum=0.9 optimizer.clipnorm=none optimizer.clipvalue=0.5 "
        "optimizer.weight_decay=0.01 optimizer.schedule=exponential optimizer.warmup_epochs=0.5 "
        "optimizer.final_share=0.1 train.precision=mixed_bfloat16 train.label_smoothing=0.1 train.threads=1 "
        "model.identity_recurrent=0.5 model.chrono_steps=29"
    )
    config = check_model(load(overrides=text.split()))
    assert (config.optimizer.momentum, config.train.precision) == (0.9, "mixed_bfloat16")
    assert keras.config.dtype_policy().name == "float32"  # that of the trial build is gone


def test_mistakes_cost_no_data(monkeypatch):
    monkeypatch.setattr("training.datasets.base.Dataset.load", lambda *_: pytest.fail("data was read"))
    with pytest.raises(ConfigError):
        check_model(load(overrides=["model.dropout=2"]))


def test_asking_whether_a_configuration_is_right_changes_nothing():
    """In a process of its own, in which nothing has been computed and no model built."""
    code = (
        "import sys\n"
        "from training.config import load\n"
        "load(overrides=['train.threads=3', 'train.device=cpu', 'model.units=0', 'train.precision=mixed_bfloat16'])\n"
        "assert not {'keras', 'tensorflow'} & set(sys.modules), 'imported a framework'\n"
        "load(overrides=['train.threads=3', 'train.device=cpu', 'model.activation=relu'])\n"
        "import keras, tensorflow as tf\n"
        "assert keras.config.dtype_policy().name == 'float32'\n"
        "assert tf.config.threading.get_intra_op_parallelism_threads() == 0\n"
        "tf.config.threading.set_intra_op_parallelism_threads(2)  # refused once anything has been computed\n"
    )
    environment = os.environ | {"KERAS_BACKEND": "tensorflow"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_files_that_are_none(tmp_path):
    with pytest.raises(ConfigError, match=r"japanese_vowels_lstm"):
        load("japanese_vowels_lst")
    (tmp_path / "bad.toml").write_text("a = = 1")
    with pytest.raises(ConfigError, match="is not TOML"):
        load(tmp_path / "bad.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="is not TOML"):
        load(tmp_path / "binary.toml")


def hints():
    """Every `key=` in the messages of errors that the verbs of training raise, with where it stands."""
    for path in sorted(Path(training.__file__).parent.rglob("*.py")):
        raised = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Raise)]
        texts = [each for node in raised for each in ast.walk(node) if isinstance(each, ast.Constant)]
        for text in texts:
            for key in re.findall(r"(?<![\w.-])([a-z_]+(?:\.[a-z_]+)*)=(?!=)", str(text.value)):
                yield f"{path.name}:{text.lineno}", key


def test_messages_name_keys_that_there_are():
    keys = {key for name in MODELS for key in Config(model=model_section(name)()).flat()}
    short = {key.rpartition(".")[2] for key in keys if "." in key}
    found = list(hints())
    assert "train.device" in {key for _, key in found}
    assert [(where, key) for where, key in found if "." in key and key not in keys] == []
    # A key without its section, which the command line would refuse.
    assert [(where, key) for where, key in found if key in short] == []


def test_data_that_leaves_something_open_stops_until_a_key_answers(tmp_path: Path) -> None:
    from training.config import find_dataset
    from training.datasets.own import Unanswered

    path = tmp_path / "firms.csv"
    rows = [f"{firm},{1935 + year},{firm * 10 + year % 4}" for firm in (1, 2, 3) for year in range(20)]
    path.write_text("\n".join(["firm,year,invested", *rows]) + "\n")
    forecast = [f"dataset.path={path}", "dataset.task=forecasting", "dataset.horizon=2", "dataset.window=4"]
    with pytest.raises(Unanswered, match=r"firms\.csv leaves open .*(?s:.*)answer with --id firm") as stopped:
        load(overrides=forecast)
    assert stopped.value.exit_code == 2
    config = load(overrides=[*forecast, "dataset.id=firm"])
    assert (config.dataset.id, config.flat()["dataset.id"]) == (["firm"], ["firm"])
    both = load(overrides=[*forecast, "dataset.id=firm", "dataset.time='year,'"])
    assert both.dataset.time == ["year"]
    # A run of the version before, which said nothing of columns, can be read.
    stored = {"dataset": {"path": str(path), "task": "forecasting", "horizon": 2, "window": 4}}
    assert find_dataset(parse(stored).dataset).spec.outputs == ("invested",)


def test_columns_are_for_data_of_your_own() -> None:
    with pytest.raises(ConfigError, match=r"'dataset\.id' is for data of your own, named by dataset\.path"):
        load(overrides=["dataset.id=firm"])
