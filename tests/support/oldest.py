"""The lowest versions that ``pyproject.toml`` allows, as constraints for pip.

``python -m tests.support.oldest`` prints them; ``make oldest`` installs them and runs the tests. torch
stays as ``.ci/requirements.lock`` pins it, because older ones are large downloads.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from tests.support.paths import ROOT

LOCK = ROOT / ".ci" / "requirements.lock"
BOUND = re.compile(r"(?P<name>[\w-]+)>=(?P<version>[\d.]+)")


def locked(package: str) -> str:
    """The version that the lock file pins."""
    found = re.search(rf"^{package}==([^\s;]+)", LOCK.read_text(encoding="utf-8"), re.MULTILINE)
    assert found, f"{LOCK} has no {package}"
    return found[1]


def constraints() -> Iterator[str]:
    """One line for each package with a lower bound: the newest patch of that release."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = (requirement for extra in project["optional-dependencies"].values() for requirement in extra)
    for requirement in dict.fromkeys([*project["dependencies"], *extras]):
        if (bound := BOUND.match(requirement)) and bound["name"] not in ("torch", "torchvision"):
            version = bound["version"] if "." in bound["version"] else f"{bound['version']}.0"
            yield f"{bound['name']}=={version}.*"
    yield f"torch=={locked('torch')}"


if __name__ == "__main__":
    print("\n".join(constraints()))
