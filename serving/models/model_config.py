"""The models of a configuration: their folders, version policies and labels."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from serving.config_protos import model_server_config, read_text_proto
from serving.errors import Code, ServingError, invalid

PLATFORM = "tensorflow"

_T = TypeVar("_T")
_Kind = Literal["latest", "all", "specific"]


@dataclass(frozen=True)
class VersionPolicy:
    """Which of the versions in a model's folder are served.

    Attributes:
        kind: The newest `num_versions`, all, or those in `versions`.
        num_versions: How many, for `latest`.
        versions: Which, for `specific`.

    Example:
    >>> VersionPolicy("latest", num_versions=2).choose({1: "a", 2: "b", 3: "c"})
    {3: 'c', 2: 'b'}
    >>> VersionPolicy("specific", versions=frozenset({1, 9})).choose({1: "a", 2: "b"})
    {1: 'a'}
    """

    kind: _Kind = "latest"
    num_versions: int = 1
    versions: frozenset[int] = frozenset()

    def choose(self, versions: Mapping[int, _T]) -> dict[int, _T]:
        """The versions to serve of those that there are, the newest first."""
        chosen = sorted(versions, reverse=True)
        if self.kind == "latest":
            chosen = chosen[: self.num_versions]
        elif self.kind == "specific":
            chosen = [version for version in chosen if version in self.versions]
        return {version: versions[version] for version in chosen}


@dataclass(frozen=True)
class ModelConfig:
    """One model: its name in requests, the folder with its versions, which are served, and labels for some of them."""

    name: str
    base_path: Path
    policy: VersionPolicy = VersionPolicy()
    labels: Mapping[str, int] = field(default_factory=dict)


def read_model_server_config(path: Path) -> Any:
    """The `ModelServerConfig` message in a text file.

    Raises:
        ServingError: INVALID_ARGUMENT: the file cannot be read, or does not hold such a message.
        ServingApiMissing: The extra `serve` is not installed.
    """
    return read_text_proto(path, model_server_config())


def model_configs(message: Any) -> list[ModelConfig]:
    """The models in a `ModelServerConfig` message that has a list of models.

    Raises:
        ServingError: INVALID_ARGUMENT, by TensorFlow Serving's words: a model stands twice, its base path is relative,
            or it is of another platform.
    """
    if message.WhichOneof("config") == "custom_model_config":
        raise invalid("ModelServer does not yet support custom model config.")
    configs = [_model_config(model) for model in message.model_config_list.config]
    for name in _repeated(config.name for config in configs):
        raise invalid(f"Illegal to list model {name} multiple times in config list")
    return configs


def _repeated(names: Iterable[str]) -> list[str]:
    seen: set[str] = set()
    return [name for name in names if name in seen or seen.add(name)]  # type: ignore[func-returns-value]


def _model_config(model: Any) -> ModelConfig:
    if "://" in model.base_path:
        raise ServingError(
            Code.UNIMPLEMENTED,
            f"model {model.name} has base_path()={model.base_path}, and only folders of this machine are read here; "
            "copy the model, or use TensorFlow Serving itself",
        )
    if not model.base_path.startswith("/"):
        raise invalid(f"Expected model {model.name} to have an absolute path or URI; got base_path()={model.base_path}")
    _check_platform(model)
    return ModelConfig(
        model.name, Path(model.base_path), _policy(model.model_version_policy), dict(model.version_labels)
    )


def _check_platform(model: Any) -> None:
    if model.model_type and model.model_platform:
        raise invalid(
            "Illegal setting both ModelServerConfig::model_type (deprecated) and ModelServerConfig::model_platform."
        )
    # The deprecated model_type 1 is TensorFlow.
    platform = model.model_platform or ("" if not model.model_type else PLATFORM if model.model_type == 1 else "other")
    if not platform:
        raise invalid(
            "Illegal setting neither ModelServerConfig::model_type (deprecated) nor ModelServerConfig::model_platform."
        )
    if platform != PLATFORM:
        raise invalid(f"Model {model.name} requests unsupported platform {platform}")


def _policy(policy: Any) -> VersionPolicy:
    kind: _Kind = policy.WhichOneof("policy_choice") or "latest"
    # TensorFlow Serving takes 0 for 1.
    return VersionPolicy(
        kind=kind,
        num_versions=max(policy.latest.num_versions, 1),
        versions=frozenset(policy.specific.versions),
    )
