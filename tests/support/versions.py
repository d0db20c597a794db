"""What older releases of transformers lack, each with the release that has it."""

from __future__ import annotations

import pytest
import transformers
from packaging.version import Version

from tests.support.oldest import locked

TRANSFORMERS = Version(transformers.__version__)
IS_OLDER = Version(locked("transformers")) > TRANSFORMERS
"""Whether transformers is older than the release in the lock file, with which every test passes."""


def since(version: str, what: str) -> pytest.MarkDecorator:
    """Skips a test with a transformers before ``version``, which lacks ``what``."""
    reason = f"transformers {TRANSFORMERS} lacks {what}, which {version} has"
    return pytest.mark.skipif(Version(version) > TRANSFORMERS, reason=reason)
