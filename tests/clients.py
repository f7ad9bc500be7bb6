"""A workspace with a model of each form: `tutor` traces knowledge, `mlp` is an exported program."""

from pathlib import Path

import torch
from predictors import Made, make
from safetensors.torch import save_file

from kt import files
from kt.deployments.manifest import Version
from kt.models import exported, sakt
from kt.registry import program
from kt.registry.record import Spec, weights

ITEMS = tuple(str(number) for number in range(10))


def both(root: Path) -> Made:
    """Both models, each at v1, with 100 % of their traffic."""
    made = make(root)
    tutor(made, "v1")
    mlp(made, "v1")
    route(made)
    return made


def route(made: Made, treatment: str = "") -> None:
    tutors = {"v1": made.versions["tutor v1"]} | (
        {treatment: made.versions[f"tutor {treatment}"]} if treatment else {}
    )
    one = Made(made.root, tutors).route("v1", treatment, traffic=50)
    other = Made(made.root, {"v1": made.versions["mlp v1"]}).route("v1")
    made.deploy(2 if treatment else 1, tutor=one, mlp=other)


def tutor(made: Made, name: str) -> None:
    torch.manual_seed(len(made.versions))
    config = sakt.Config(items=len(ITEMS), d_model=16, heads=2, window=20)
    signature = sakt.FORM.Signature(items=ITEMS, categories=2, window=20)
    keep(
        made,
        "tutor",
        name,
        Spec(
            family="sakt",
            config=config.model_dump(),
            form="kt.models.tracing",
            signature=signature.model_dump(mode="json"),
        ),
        sakt.Model(config).state_dict(),
    )


def mlp(made: Made, name: str) -> None:
    torch.manual_seed(0)
    path = made.root / "mlp.pt2"
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
    batch = torch.export.Dim("batch", min=1, max=64)
    torch.export.save(
        torch.export.export(model.eval(), (torch.randn(2, 3),), dynamic_shapes=({0: batch},)), path
    )
    tensors, config = program.read(path, path)
    signature = exported.signature(exported.Config.model_validate(config))
    keep(
        made,
        "mlp",
        name,
        Spec(
            family="exported",
            config=config,
            form="kt.models.tensors",
            signature=signature.model_dump(mode="json"),
        ),
        tensors,
    )


def keep(made: Made, model: str, name: str, spec: Spec, tensors: dict[str, torch.Tensor]) -> None:
    path = weights(made.root, model, name)
    path.parent.mkdir(parents=True)
    save_file(tensors, path, metadata={"kt": spec.model_dump_json()})
    made.versions[f"{model} {name}"] = Version(version=name, sha256=files.digest(path))
