"""Registration of a confirmation's network in the MLflow model registry."""

import re
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import dynamos
from dynamos.errors import CheckpointError, DynamosError, RunError, UserError
from results.analysis.confirmation import trained
from results.definition.protocols import NOT_PUBLISHABLE
from results.ledger.ledger import Ledger
from results.trial import TrialRecord
from results.wording import mean_and_spread
from tune.tracking.mirror import EXPERIMENT, SWEEP_TAG, TAG, Mirror
from tune.tracking.store import error_line, mlflow_uri, prepare

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from dynamos.config import TrainConfig
    from dynamos.network import ResNet

CODE = Path(__file__).with_name("pyfunc_model.py")
# Packages that the model's code imports, in addition to MLflow.
REQUIREMENTS = ("numpy", "pyyaml", "safetensors", "scikit-learn", "torch")


def parse(text: str) -> tuple[str, str]:
    """(model, alias) of MODEL@ALIAS."""
    model, _, alias = text.partition("@")
    if not model or not alias:
        why = ""
    elif re.fullmatch(r"latest|v\d+", alias, re.IGNORECASE):
        why = f"MLflow reserves {alias!r} for versions and refuses it as an alias; "
    elif not re.fullmatch(r"[A-Za-z][\w-]{0,254}", alias, re.ASCII):
        why = (
            f"the alias {alias!r} must begin with a letter and contain only letters, digits, "
            "'_' and '-'; "
        )
    elif not re.fullmatch(r"\w[\w.-]*", model, re.ASCII):
        why = f"the model's name {model!r} must contain only letters, digits, '_', '-' and '.'; "
    else:
        return model, alias
    raise UserError(
        f"`register` {text!r}: {why}write MODEL@ALIAS, for instance dynamos-seq-mnist@champion."
    )


def register(ledger: Ledger, trial: TrialRecord, model: str, alias: str) -> str:
    """Register the network of a sweep's trial at an alias and return its version.

    It is the network that the trial's latest confirmation trained, on all training images, with the
    first of its seeds; test results do not decide the seed. If this network is registered already,
    its version is returned. Raises UserError if no confirmation has trained the trial.
    """
    found = trained(ledger, trial.number)
    if found is None:
        raise UserError(
            f"no confirmation has trained trial {trial.number} of {ledger.config.name!r}, so there "
            f"is no network to register: {ledger.command('confirm')}"
        )
    there, retrained = found
    seed = there.config.training_seeds[0]
    train, network = _network(there, retrained, seed)
    prepare()
    uri = mlflow_uri(ledger)
    try:
        from mlflow import MlflowClient

        client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        tags = {
            "sweep": ledger.config.name,
            "sweep_id": str(ledger.record["id"]),
            "trial": str(trial.number),
            "confirmation": there.config.name,
            "seed": str(seed),
            "protocol": ledger.config.protocol,
            **{metric: mean_and_spread(retrained, metric) for metric in there.config.metrics},
        }
        if not ledger.config.publishable:
            tags["warning"] = NOT_PUBLISHABLE
        version = _version(client, uri, model, tags)
        if version is None:
            run = _run(there, retrained, uri, client)
            with TemporaryDirectory() as folder:
                client.log_artifacts(run, str(_saved(train, network, Path(folder))), "model")
            source = f"{client.get_run(run).info.artifact_uri}/model"
            version = client.create_model_version(
                model,
                source,
                run,
                tags=tags,
                description=(
                    f"{train.method_name} on {train.stream_name}, seed {seed}; over "
                    f"{len(retrained.results)} seeds "
                    + ", ".join(
                        f"{name} {tags[name]}" for name in there.config.metrics if tags[name]
                    )
                ),
            ).version
        client.set_registered_model_alias(model, alias, version)
    except DynamosError:
        raise
    except Exception as error:  # whatever the store or the network raised
        raise RunError(
            f"MLflow's registry at {uri} rejected the model: {error_line(error)}"
        ) from error
    return str(version)


def _network(there: Ledger, trial: TrialRecord, seed: int) -> "tuple[TrainConfig, ResNet]":
    """(configuration, network) of a trial's seed, from its newest attempt's checkpoint."""
    from dynamos.export import from_checkpoints

    for folder in there.attempts(trial):
        found = from_checkpoints(folder / f"seed-{seed}")
        # If the newest file is damaged, the one before it is read; its network lacks a task.
        if found is not None and found[2] == trial.tasks_done:
            return found[:2]
    raise CheckpointError(
        f"no readable checkpoint of seed {seed} after its last task in "
        f"{there.trial_folder(trial.number)}."
    )


def _version(client: "MlflowClient", uri: str, model: str, tags: dict[str, str]) -> str | None:
    """The version of a model that has these tags and whose files still exist, or None.

    Makes the model if it is missing.
    """
    from mlflow.artifacts import list_artifacts

    if not client.search_registered_models(f"name = '{model}'"):
        client.create_registered_model(model)
    versions = client.search_model_versions(f"name = '{model}'")
    # `mlflow gc` deletes the files of a deleted run, but not the version that was made of them.
    return next(
        (
            v.version
            for v in versions
            if v.tags == tags and list_artifacts(v.source, tracking_uri=uri)
        ),
        None,
    )


def _run(there: Ledger, trial: TrialRecord, uri: str, client: "MlflowClient") -> str:
    """The id of the MLflow run of a confirmation's trial, after a sync with its ledger."""
    Mirror(there, uri).sync()
    experiment = client.get_experiment_by_name(EXPERIMENT)
    assert experiment is not None
    [run] = client.search_runs(
        [experiment.experiment_id],
        f"tags.`{SWEEP_TAG}` = '{there.record['id']}' and "
        f"tags.`{TAG}` = '{there.config.name}/{trial.number}'",
    )
    return str(run.info.run_id)


def _saved(train: "TrainConfig", network: "ResNet", folder: Path) -> Path:
    """Save the network as an MLflow model in a folder, and return its path."""
    from importlib.metadata import version

    import mlflow.pyfunc
    import numpy as np
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    from dynamos.export import write

    assert dynamos.__file__ is not None
    # MLflow advises to add an input example; the signature serves its purpose
    with warnings.catch_warnings(action="ignore"):
        mlflow.pyfunc.save_model(
            folder / "model",
            python_model=str(CODE),
            code_paths=[str(Path(dynamos.__file__).parent)],
            artifacts={"network": str(write(train, network, folder / "network"))},
            # The signature has no inputs: MLflow would refuse inputs that the model can convert,
            # and print them in full.
            signature=ModelSignature(
                outputs=Schema(
                    [
                        TensorSpec(np.dtype(np.int64), (-1,), "class"),
                        TensorSpec(np.dtype(np.float32), (-1, network.num_classes), "logits"),
                    ]
                )
            ),
            pip_requirements=[
                f"mlflow=={version('mlflow')}",
                *(f"{name}=={version(name)}" for name in REQUIREMENTS),
            ],
        )
    return folder / "model"
