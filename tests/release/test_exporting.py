"""From a run to production: what an export tells MLflow, and what a label changes for whoever polls `models.config`."""

import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import fake_rest_api
import mlflow
import numpy as np
import pytest
from click.testing import CliRunner
from google.protobuf import text_format
from mlflow.tracking import MlflowClient
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig
from waiting import PATIENCE

import zoo.export
from serving.release import models_config
from serving.release.models_config import PromotionError
from serving.release.version_folders import complete_versions
from training import tracking
from training.cli import export as export_cli
from training.tracking import exports
from training.tracking.model_folder import write_model
from training.tracking.store import experiment_of, open_store
from zoo.models import SequenceTask, build


def invoke(command, *arguments):
    return CliRunner().invoke(command, [str(argument) for argument in arguments], catch_exceptions=False)


def write_version(root: Path, name: str, version: int) -> Path:
    folder = root / name / str(version)
    folder.mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(f"graph {name} {version}".encode())
    return folder


def read(root: Path) -> ModelServerConfig:
    return text_format.Parse((root / "models.config").read_text(), ModelServerConfig())


# === models.config ===


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for version in (1, 2, 3, 12):
        write_version(tmp_path, "m", version)
    (tmp_path / "m/.writing-7").mkdir()
    return tmp_path


def nothing(*_):
    pass


def promote(root: Path, version: int, label: str = "stable", served_at=None, wait=nothing, announce=nothing):
    return models_config.promote(root, "m", version, label, served_at, wait, announce)


def rollback(root: Path, label: str = "stable", wait=nothing, announce=nothing):
    return models_config.rollback(root, "m", label, wait, announce)


def state(root: Path) -> tuple[dict[str, int], list[int]]:
    [entry] = [entry for entry in read(root).model_config_list.config if entry.name == "m"]
    return dict(entry.version_labels), list(entry.model_version_policy.specific.versions)


def test_labels_move_and_go_back_and_what_they_need_stays_served(root):
    made = promote(root, 1)
    assert (made.before, made.served, made.base_path) == (None, (1,), str(root / "m"))
    promote(root, 3)
    assert state(root) == ({"stable": 3}, [1, 3])
    promote(root, 12, "canary")
    assert state(root) == ({"stable": 3, "canary": 12}, [1, 3, 12])
    promote(root, 1)  # the history is 1, 3, 1
    promote(root, 1)  # said twice is said once
    assert [rollback(root).version for _ in range(2)] == [3, 1]
    assert state(root) == ({"stable": 1, "canary": 12}, [1, 12])
    with pytest.raises(PromotionError, match="has been on version 1 only"):
        rollback(root)
    promote(root, 2)
    assert rollback(root).version == 1


def test_a_label_moves_only_to_what_the_servers_have_loaded(root):
    """A server that reads a label on what it has not loaded refuses the file, and never loads it."""
    seen = []

    def wait(folder, since):
        seen.append((int(folder.name), *state(root)))
        assert 0 <= time.time() - since < 60

    promote(root, 1, wait=wait)  # a new label may be on anything: --allow_version_labels_for_unavailable_models
    assert seen == []
    promote(root, 3, wait=wait)
    assert seen.pop() == (3, {"stable": 1}, [1, 3])
    since = json.loads((root / "m/labels.json").read_text())["since"]
    rollback(root, wait=lambda folder, earlier: seen.append(earlier))
    assert seen.pop() == since["1"]  # for long in the file, so that nobody waits

    before = (root / "models.config").read_bytes()
    with pytest.raises(KeyboardInterrupt):
        promote(root, 12, wait=lambda folder, since: interrupted())
    assert (root / "models.config").read_bytes() == before
    promote(root, 12, wait=wait)
    assert seen == [(12, {"stable": 1}, [1, 12])]


def interrupted():
    raise KeyboardInterrupt


def test_the_rest_of_the_file_stays(root):
    (root / "models.config").write_text(
        "# ours, since 2019\n\n"
        'model_config_list { config { name: "other" base_path: "/models/other" model_platform: "tensorflow"\n'
        "  model_version_policy { latest { num_versions: 2 } } } # a comment in the middle is not kept\n"
        '  config { name: "m" base_path: "s3://bucket/m" model_platform: "tensorflow"\n'
        '  model_version_policy { all {} } version_labels { key: "hand" value: 2 } } }'
    )
    other = read(root).model_config_list.config[0]
    made = promote(root, 3)
    assert made.served == (1, 2, 3, 12)
    config = read(root)
    assert config.model_config_list.config[0] == other
    mine = config.model_config_list.config[1]
    assert mine.base_path == "s3://bucket/m"
    assert mine.model_version_policy.HasField("all")
    assert dict(mine.version_labels) == {"hand": 2, "stable": 3}
    assert (root / "models.config").read_text().startswith("# ours, since 2019\n\nmodel_config_list")
    assert sorted(path.name for path in root.iterdir()) == [".models.config.lock", "m", "models.config"]
    # A label that was put there by hand has a version before it, too.
    promote(root, 12, "hand")
    assert rollback(root, "hand").version == 2


def test_where_the_server_looks(root):
    assert promote(root, 1, served_at="/models/").base_path == "/models/m"
    assert promote(root, 2).base_path == "/models/m"
    write_version(root, "new", 1)
    assert models_config.promote(root, "new", 1, "stable", None, nothing, nothing).base_path == "/models/new"


@pytest.mark.parametrize(
    ("action", "step"), [*(("promote", n) for n in range(6)), *(("rollback", n) for n in range(4))]
)
def test_a_crash_anywhere_is_repaired_by_the_same_command(root, monkeypatch, action, step):
    promote(root, 1)
    promote(root, 2)
    labels, _ = state(root)
    done, announced, write = [], [], models_config.write_safely

    def dying(act):
        def until_dead(*arguments):
            done.append(act)
            if len(done) > step:
                raise KeyboardInterrupt  # and whoever wants to clean up is dead, too
            return act(*arguments)

        return until_dead

    def run(wrap=lambda act: act):
        monkeypatch.setattr(models_config, "write_safely", wrap(write))
        told = {"wait": wrap(nothing), "announce": wrap(lambda folder: announced.append(int(folder.name)))}
        return promote(root, 3, **told) if action == "promote" else rollback(root, **told)

    with pytest.raises(KeyboardInterrupt):
        run(dying)
    assert state(root)[0] == labels  # clients see nothing of it
    made = run()
    assert (made.before, made.version) == (2, announced[-1])
    assert state(root) == (({"stable": 3}, [2, 3]) if action == "promote" else ({"stable": 1}, [1]))
    if action == "promote":
        assert [rollback(root).version for _ in range(2)] == [2, 1]


def test_two_processes_at_once_lose_nothing(root):
    script = (
        "import sys; from pathlib import Path; from serving.release.models_config import promote\n"
        "for version in (1, 2, 3, 12): promote(Path(sys.argv[1]), 'm', version, sys.argv[2], None, print, print)"
    )
    labels = ("a", "b", "c")
    running = [subprocess.Popen([sys.executable, "-c", script, str(root), label]) for label in labels]
    assert [process.wait(PATIENCE) for process in running] == [0, 0, 0]
    assert state(root) == (dict.fromkeys(labels, 12), [3, 12])


def test_what_cannot_be_promoted_is_said_and_changes_nothing(root, tmp_path):
    with pytest.raises(PromotionError, match=r"no version 4 of m.*its versions are 1, 2, 3, 12; zoo export"):
        promote(root, 4)
    with pytest.raises(PromotionError, match="has no version at all"):
        models_config.promote(root, "n", 1, "stable", None, nothing, nothing)
    with pytest.raises(PromotionError, match="it was never promoted"):
        rollback(root)
    with pytest.raises(PromotionError, match="there is no folder"):
        models_config.promote(root / "nowhere", "m", 1, "stable", None, nothing, nothing)
    assert not (root / "models.config").exists()
    promote(root, 1)
    promote(root, 2, "canary")
    with pytest.raises(PromotionError, match=r"no label 'stabel'.*its labels are canary, stable"):
        rollback(root, "stabel")
    shutil.rmtree(root / "m/2")  # a server would refuse the whole file for a label on what is not there
    with pytest.raises(PromotionError, match="there is no version 2"):
        promote(root, 3)
    (root / "m/labels.json").write_text('{"stable": ')
    with pytest.raises(PromotionError, match="is damaged"):
        promote(root, 3)
    for content, reason in (
        (
            "model_config_list { conf",
            r"Invalid protobuf file: '.*/models.config': Error parsing text-format tensorflow.serving."
            r"ModelServerConfig: 1:21: Message type .* has no field named \"conf\"",
        ),
        ("custom_model_config {}", "custom"),
        ("model_config_list { " + 2 * 'config { name: "m" } ' + "}", "Illegal to list model m multiple times"),
    ):
        (root / "models.config").write_text(content)
        with pytest.raises(PromotionError, match=reason):
            promote(root, 3)
        assert (root / "models.config").read_text() == content


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        (export_cli.export, ["abc", "--name", "../x"]),
        (export_cli.promote, ["a/b", 1, "--label", "stable"]),
        (export_cli.promote, ["m", 1, "--label", "latest"]),
        (export_cli.promote, ["m", 1, "--label", "v2"]),
        (export_cli.promote, ["m", 1, "--label", "a:b"]),
        (export_cli.promote, ["m", 1, "--label", "stable", "--served-at", "models"]),
        (export_cli.promote, ["m", "newest", "--label", "stable"]),
        (export_cli.rollback, ["m"]),
    ],
)
def test_wrong_calls(command, arguments):
    assert invoke(command, *arguments).exit_code == 2


def test_a_server_says_whether_it_has_loaded_a_version(monkeypatch):
    monkeypatch.setattr(export_cli, "LOADING", 0.3)
    with fake_rest_api.serving() as (url, _):
        export_cli._wait("numbers", 2, (url, f"{url}/"), read_by=float("inf"))
        for name, version, said in (
            ("numbers", 3, "UNKNOWN: it is broken"),
            ("numbers", 1, "END"),
            ("other", 1, "Could not find"),
        ):
            with pytest.raises(export_cli.NotLoaded, match=f"the label stays where it is: {said}"):
                export_cli._wait(name, version, (url,), read_by=0)
    with pytest.raises(export_cli.NotLoaded, match="refused"):
        export_cli._wait("numbers", 2, (url,), read_by=0)


# === MLflow ===


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A working directory with a run that has a model, as a training leaves it."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        client = open_store()
        run_id = client.create_run(experiment_of(client, "sequence-zoo"), run_name="lstm").info.run_id
        model = build("lstm", SequenceTask(channels=2, classes=3), units=2)
        write_model(folder / "model", model, run_id)
        client.log_artifacts(run_id, str(folder / "model"), "model")
        task = {"dataset": "japanese_vowels", "kind": "classification", "classes": ["a", "b", "c"], "channels": 2}
        client.log_dict(run_id, task, "task.json")
        for key, value in {"outcome": "finished", "git_dirty": "true", "version.keras": "3.15.1"}.items():
            client.set_tag(run_id, key, value)
        client.log_metric(run_id, "test/loss", 0.25)
        client.set_terminated(run_id)
    return SimpleNamespace(folder=folder, run_id=run_id)


@pytest.fixture
def inside(trained, monkeypatch):
    """There, with an export that takes no time: the real one has tests of its own, and a test in test_tracking.py."""
    monkeypatch.chdir(trained.folder)
    shutil.rmtree("models", ignore_errors=True)
    given = []

    def export(model, task, directory, card, *, xla, golden):
        given.append(SimpleNamespace(model=model, task=task, card=card, xla=xla, golden=golden))
        path = write_version(directory.parent, directory.name, 1 + len(complete_versions(directory)))
        return SimpleNamespace(
            path=path, version=int(path.name), metrics={"export/parity": 1e-7}, refused={"classify": "why"}
        )

    monkeypatch.setattr(zoo.export, "export", export)
    return SimpleNamespace(**vars(trained), given=given, client=MlflowClient(tracking.tracking_uri()))


@pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType")  # inside MLflow 3.17
def test_an_export_is_a_version_in_the_registry_and_its_alias_follows_the_label(inside):
    shown = invoke(export_cli.export, inside.run_id[:8], "--name", "speakers", "--xla", "--json")
    second = invoke(export_cli.export, inside.run_id[:8], "--name", "speakers")
    about = {
        "path": "models/speakers/1",
        "version": 1,
        "metrics": {"export/parity": 1e-7},
        "refused": {"classify": "why"},
    }
    assert json.loads(shown.stdout) == about
    assert second.stdout == "models/speakers/2\nwithout classify: why\n"
    assert second.stderr == ""
    assert [call.xla for call in inside.given] == [True, False]
    card = inside.given[0].card
    assert card["dataset"]["licence"] == "CC BY 4.0"
    assert card["dataset"]["split"]
    assert (card["git_dirty"], card["trained_with"]["keras"]) == (True, "3.15.1")
    assert card["metrics"] == {"test/loss": 0.25}

    versions = inside.client.search_model_versions("name = 'speakers'")
    assert {version.tags["serving_version"] for version in versions} == {"1", "2"}
    assert {version.run_id for version in versions} == {inside.run_id}
    assert {version.tags["parity"] for version in versions} == {"1e-07"}
    assert set(inside.client.get_run(inside.run_id).data.metrics) == {"test/loss"}  # none of an export
    files = [file.path for file in inside.client.list_artifacts(inside.run_id, "saved_model/2")]
    assert files == ["saved_model/2/saved_model.pb"]
    assert not Path("mlruns/runs").exists() or not list(Path("mlruns/runs").iterdir())

    for version in (1, 2):
        arguments = ["--label", "stable", "--served-at", "/models", "--poll", 0.5]
        result = invoke(export_cli.promote, "speakers", version, *arguments)
    assert result.stdout == (
        "speakers: stable is on version 2, which was on 1; served: 1, 2\n"
        "models/models.config: servers look for the model in /models/speakers\n"
    )
    assert re.fullmatch(r"waiting 0\.\d s, until every server has read of version 2\n", result.stderr)
    assert inside.client.get_model_version_by_alias("speakers", "stable").tags["serving_version"] == "2"
    back = json.loads(invoke(export_cli.rollback, "speakers", "--label", "stable", "--poll", 0, "--json").stdout)
    assert (back["version"], back["before"], back["served"]) == (1, 2, [1])
    stable = inside.client.get_model_version_by_alias("speakers", "stable")
    assert stable.tags["serving_version"] == "1"
    loaded = mlflow.pyfunc.load_model(stable.source)  # what models:/speakers@stable loads
    batch = {"features": np.zeros((1, 4, 2), "float32"), "lengths": np.array([4], "int32")}
    assert np.shape(loaded.predict(batch)) == (1, 3)


def test_a_store_that_went_away_gets_the_export_later(inside, monkeypatch):
    def away():
        raise tracking.StoreUnavailable("refused")

    with monkeypatch.context() as patch:
        patch.setattr(exports, "open_store", away)
        patch.setattr(export_cli, "card_of", lambda run, name, task: {})
        result = invoke(export_cli.export, inside.run_id, "--name", "late", "--json")
        assert json.loads(result.stdout)["version"] == 1
        assert result.stderr.count("\n") == 1
        assert "are not recorded yet (refused)" in result.stderr
        promoted = invoke(export_cli.promote, "late", 1, "--label", "stable")
        assert "late: stable is on version 1" in promoted.stdout
        assert "MLflow's alias stable was not set" in promoted.stderr
    assert inside.client.search_model_versions("name = 'late'") == []
    again = invoke(export_cli.promote, "late", 1, "--label", "stable")  # reaches the store, which delivers first
    assert "not set" not in again.stderr
    assert inside.client.get_model_version_by_alias("late", "stable").run_id == inside.run_id


def test_without_the_registry(inside):
    result = invoke(export_cli.export, inside.run_id, "--name", "quiet", "--no-register")
    assert result.exit_code == 0
    promoted = invoke(export_cli.promote, "quiet", 1, "--label", "stable")
    assert "knows no version of quiet that is models/quiet/1" in promoted.stderr
    assert promoted.exit_code == 0


def test_telling_twice_makes_one_version(inside):
    run, folder = tracking.find(inside.run_id), write_version(Path("models"), "twice", 1)
    assert tracking.record_export(run, "twice", folder, {"export/parity": 0.0})
    assert tracking.record_export(run, "twice", folder, {"export/parity": 0.0})
    assert len(inside.client.search_model_versions("name = 'twice'")) == 1


def test_an_export_that_was_deleted_before_it_was_delivered_holds_nothing_up(inside, monkeypatch, capfd):
    run, folder = tracking.find(inside.run_id), write_version(Path("models"), "gone", 1)
    monkeypatch.setattr(exports, "deliver", lambda *_: 1 / 0)
    assert not tracking.record_export(run, "gone", folder, {})
    shutil.rmtree(folder)
    open_store()
    assert "refused files: " in capfd.readouterr().err
    assert len(inside.client.search_model_versions("name = 'gone'")) == 1
