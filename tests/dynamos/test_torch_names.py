"""Private names of torch that we use. If an upgrade removes one, a test here fails."""

import subprocess
import sys

import pytest

from tests.helpers.private_names import check_there, imported_by, mentioned_in

USES = {
    "torch._dynamo.exc.TorchDynamoException": "going on without compiled steps where there is no "
    "compiler",
    "torch._fused_sgd_": "the steps of a run",
    "torch._foreach_addcmul_": "the steps of a cohort's runs, each with its learning rate",
}


@pytest.mark.parametrize("name", USES)
def test_torch_has(name: str) -> None:
    check_there(name, USES)


def test_they_are_in_one_module_and_each_has_its_use() -> None:
    assert mentioned_in(r"\btorch\._(?!_)") == ["dynamos/torch_names.py"]
    assert imported_by("dynamos/torch_names.py", "torch") == USES.keys()


def test_importing_the_module_imports_no_private_name() -> None:
    code = "import sys, dynamos.torch_names; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_missing_private_name_is_named_in_a_sentence() -> None:
    uses = {"torch._gone.Name": "nothing"}
    with pytest.raises(AssertionError, match=r"Torch \d\S* no longer has torch\._gone\.Name: used"):
        check_there("torch._gone.Name", uses)
