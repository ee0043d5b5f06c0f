"""The application master as every application carries it: `adapters/yarn/master` in a zip that Python runs."""

from __future__ import annotations

import base64
import io
import zipfile
from functools import cache
from pathlib import Path

HERE = Path(__file__).parent
MAIN = """import sys

from adapters.yarn.master.application import main
from adapters.yarn.master.staging import act

act(sys.argv[1:]) if sys.argv[1:] else main()
"""
_NEVER = (1980, 1, 1, 0, 0, 0)
"""The zip is the same whenever it is made."""


@cache
def master_zip() -> str:
    """In base64; some 12,000 characters."""
    modules = {f"adapters/yarn/master/{path.name}": path.read_text() for path in sorted((HERE / "master").glob("*.py"))}
    parents = {"adapters/__init__.py": "", "adapters/yarn/__init__.py": ""}
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, source in {"__main__.py": MAIN, **parents, **modules}.items():
            archive.writestr(zipfile.ZipInfo(name, _NEVER), source, zipfile.ZIP_DEFLATED, 9)
    return base64.b64encode(made.getvalue()).decode()
