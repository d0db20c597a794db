"""A whole run with an image that the model refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from phasebench.models.named_models import bundled_models
from phasebench.settings import Settings
from tests.support.runs import Run

pytestmark = pytest.mark.slow


def test_the_run_goes_on_without_it_or_ends(run: Run, pytester: pytest.Pytester, cache: Path) -> None:
    """The processor of this LLaVA-NeXT cuts wide pictures into other tiles than its configuration says."""
    (spec,) = (spec for spec in bundled_models() if spec.name == "tiny-random-llava-next")
    folder = Path(shutil.copytree(spec.folder(cache, Settings()), pytester.path / "next"))
    config = folder / "preprocessor_config.json"
    content = json.loads(config.read_text())
    content["image_grid_pinpoints"] = [[336, 672], [672, 336], [672, 672]]
    config.write_text(json.dumps(content))
    wide = sorted((pytester.path / "pics").rglob("*.png"))[1]
    Image.effect_noise((900, 280), 60).convert("RGB").save(wide)
    prompt = ("--prompt", spec.prompt or "")
    result = run("-m", "drift", "--snapshot-update", "--strict-data", *prompt, model="next")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines([f"*1 images are not measured; *{wide.name}: *without --strict-data*"])
    assert "Traceback" not in result.stdout.str()
    result = run("-m", "drift", "--snapshot-update", *prompt, model="next")
    assert result.ret == 0
    result.stdout.fnmatch_lines([f"*1 image skipped, 3 measured: *that the model refuses*{wide.name}*"])
