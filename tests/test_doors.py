"""Names that the three packages offer; their modules are imported at the first use of a name."""

import subprocess
import sys
from types import ModuleType

import pytest

import dynamos
import results
import search_spaces
import tune

HEAVY = {"torch", "numpy", "pandas", "optuna", "ray", "mlflow"}


@pytest.mark.parametrize(
    "package", [dynamos, results, search_spaces, tune], ids=lambda package: package.__name__
)
def test_each_name_is_imported_at_its_first_use(package: ModuleType) -> None:
    assert all(getattr(package, name) is not None for name in package.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        package.nothing  # noqa: B018


def test_to_import_them_loads_nothing_heavy() -> None:
    code = "import sys, dynamos, results, search_spaces, tune; "
    code += f"print(*({HEAVY!r} & sys.modules.keys()))"
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.strip()
        == ""
    )
