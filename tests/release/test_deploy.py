"""The deployment files, as far as no cluster is needed: they agree with each other, and name what there is."""

import importlib.util
import re
from pathlib import Path

import pytest
import yaml
from google.protobuf import text_format
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from serving.cli.refused_flags import REFUSED
from serving.cli.serve import serve
from serving.config_protos import config_message

FOLDER = Path(__file__).parents[2] / "serving/deploy"
MESSAGES = {
    "models.config": ModelServerConfig,
    "batching.config": config_message("BatchingParameters"),
    "monitoring.config": config_message("MonitoringConfig"),
}


def parse(name: str, text: str | None = None):
    return text_format.Parse((FOLDER / name).read_text() if text is None else text, MESSAGES[name]())


@pytest.fixture(scope="module")
def compose():
    return yaml.safe_load((FOLDER / "docker-compose.yml").read_text())


@pytest.fixture(scope="module")
def cluster():
    """Every object in kubernetes/, by its kind: there is one of each."""
    files = sorted((FOLDER / "kubernetes").glob("*.yaml"))
    found = [thing for file in files for thing in yaml.safe_load_all(file.read_text())]
    by_kind = {thing["kind"]: thing for thing in found}
    assert len(by_kind) == len(found)
    return by_kind


def flags(arguments: list[str]) -> dict[str, str]:
    return dict(re.fullmatch(r"--([\w-]+)=(.+)", argument).groups() for argument in arguments)


@pytest.fixture(scope="module")
def server(compose):
    return flags(compose["services"]["serving"]["command"])


def test_both_run_the_server_alike_with_flags_that_it_has(server, cluster):
    [container] = cluster["Deployment"]["spec"]["template"]["spec"]["containers"]
    assert flags(container["args"]) == server
    known = {option.removeprefix("--") for parameter in serve.params for option in parameter.opts} | set(REFUSED)
    assert set(server) <= known - {"host", "page"}  # which only the local server has
    assert container["command"] == ["tensorflow_model_server"]


def test_ports_and_paths_agree(server, compose, cluster):
    grpc, rest = int(server["port"]), int(server["rest_api_port"])
    assert compose["services"]["serving"]["ports"] == [f"127.0.0.1:{port}:{port}" for port in (grpc, rest)]
    assert str(rest) in compose["services"]["serving"]["healthcheck"]["test"][-1]
    template = cluster["Deployment"]["spec"]["template"]
    [container] = template["spec"]["containers"]
    assert {port["name"]: port["containerPort"] for port in container["ports"]} == {"grpc": grpc, "rest": rest}
    assert {port["targetPort"]: port["port"] for port in cluster["Service"]["spec"]["ports"]} == {
        "grpc": grpc,
        "rest": rest,
    }
    assert container["readinessProbe"]["grpc"]["port"] == container["startupProbe"]["grpc"]["port"] == grpc
    assert server["enable_grpc_healthcheck_service"] == "true"  # which those probes ask

    scraped = yaml.safe_load((FOLDER / "prometheus.yml").read_text())["scrape_configs"][0]
    path = parse("monitoring.config").prometheus_config.path
    annotations = template["metadata"]["annotations"]
    assert scraped["metrics_path"] == annotations["prometheus.io/path"] == path
    assert scraped["static_configs"][0]["targets"] == [f"serving:{rest}"]
    assert annotations["prometheus.io/port"] == str(rest)

    in_container = {mount["mountPath"] for mount in container["volumeMounts"]}
    given = compose["services"]["serving"]
    in_compose = {volume.split(":")[-2] for volume in given["volumes"]} | {
        str(Path(config["target"]).parent) for config in given["configs"]
    }
    for flag in ("model_config_file", "monitoring_config_file"):
        assert str(Path(server[flag]).parent) in in_container & in_compose
    assert (
        Path(parse("models.config").model_config_list.config[0].base_path).parent
        == Path(server["model_config_file"]).parent
    )


def test_the_configurations_are_what_the_server_reads(cluster, server):
    data = cluster["ConfigMap"]["data"]
    assert set(data) == {"monitoring.config"}
    for name, text in data.items():
        assert parse(name, text) == parse(name)
    batching = parse("batching.config")
    assert not batching.pad_variable_length_inputs
    assert "enable_batching" not in server  # two lengths in one batch fail on TensorFlow Serving
    [container] = cluster["Deployment"]["spec"]["template"]["spec"]["containers"]
    cores = {container["resources"]["requests"]["cpu"], server["tensorflow_inter_op_parallelism"]}
    assert cores == {str(batching.num_batch_threads.value)}
    [model] = parse("models.config").model_config_list.config
    assert set(model.version_labels.values()) <= set(model.model_version_policy.specific.versions)


def test_what_compose_refers_to_is_there(compose):
    for name, service in compose["services"].items():
        assert re.fullmatch(r"\$\{[A-Z_]+:-[\w./-]+:v?\d+\.\d+\.\d+\}", service["image"]), name
        assert service["healthcheck"]["test"][0] == "CMD"
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
        assert {config["source"] for config in service.get("configs", [])} <= set(compose["configs"])
        named = {volume.split(":")[0] for volume in service["volumes"] if not volume.startswith("$")}
        assert named <= set(compose["volumes"])
    for config in compose["configs"].values():
        assert (FOLDER / config["file"]).is_file()
    [models] = compose["services"]["serving"]["volumes"]
    assert models.endswith(":/models:ro")


def test_mlflow_has_the_flags(compose):
    package = Path(importlib.util.find_spec("mlflow").origin).parent
    known = "".join(
        file.read_text() for file in [*package.glob("cli/*.py"), package / "utils/cli_args.py"]
    )  # not imported: 6 s
    program, verb, *arguments = compose["services"]["mlflow"]["command"]
    assert (program, verb) == ("mlflow", "server")
    assert all(f'"--{name}"' in known for name in flags(arguments))
    assert "mlflow:5000" in flags(arguments)["allowed-hosts"]


def test_the_cluster_finds_its_parts(cluster):
    deployment = cluster["Deployment"]
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert deployment["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert cluster["Service"]["spec"]["selector"].items() <= labels.items()
    assert cluster["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"].items() <= labels.items()
    scaled = cluster["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]
    assert (scaled["kind"], scaled["name"]) == ("Deployment", deployment["metadata"]["name"])
    pod = deployment["spec"]["template"]["spec"]
    [container] = pod["containers"]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == set(volumes)
    assert volumes["config"]["configMap"]["name"] == cluster["ConfigMap"]["metadata"]["name"]
    assert (
        volumes["models"]["persistentVolumeClaim"]["claimName"] == cluster["PersistentVolumeClaim"]["metadata"]["name"]
    )
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["terminationGracePeriodSeconds"] > int(container["lifecycle"]["preStop"]["exec"]["command"][1])
