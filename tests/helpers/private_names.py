"""Private names of other packages that we use, and that an upgrade may remove without notice."""

import importlib
import re
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parents[2]


def there(name: str) -> bool:
    """True if a module, or a class in it, has the attribute of a dotted name."""
    parts = name.split(".")
    for modules in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:modules]))
        except ModuleNotFoundError:
            continue
        for part in parts[modules:]:
            if not hasattr(found, part):
                return False
            found = getattr(found, part)
        return True
    return False


def check_there(name: str, uses: Mapping[str, str]) -> None:
    """Assert that a package still has a name."""
    package = name.partition(".")[0]
    assert there(name), (
        f"{package.capitalize()} {version(package)} no longer has {name}: used for {uses[name]}"
    )


def mentioned_in(pattern: str) -> list[str]:
    """Our modules, without tests, whose text matches a pattern."""
    return sorted(
        str(path.relative_to(ROOT))
        for package in ("dynamos", "search_spaces", "results", "tune")
        for path in (ROOT / package).rglob("*.py")
        if re.search(pattern, path.read_text())
    )


def imported_by(module: str, package: str) -> set[str]:
    """Return the private names of a package that a module imports, dotted."""
    text = (ROOT / module).read_text()
    found = re.findall(rf"from ({package}(?:\.[\w.]+)?) import (\([^)]*\)|[^\n#(]+)", text)
    names = {f"{origin}.{name}" for origin, names in found for name in re.findall(r"\w+", names)}
    return {name for name in names if "._" in name}
