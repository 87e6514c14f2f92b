"""Lets the environments of tox.ini share one virtualenv.

tox notes in a virtualenv which environment it was made for, and makes it anew for any other. Here they all install the
same, so the note is dropped. Everything else that tox compares (Python, dependencies, constraints) stays: where one of
these changes, the virtualenv is still made anew. Should a later tox keep its notes elsewhere, nothing breaks; torch is
just installed more often.
"""

import json
from pathlib import Path

from tox.plugin import impl
from tox.tox_env.api import ToxEnv


@impl
def tox_before_run_commands(tox_env: ToxEnv) -> None:
    """Forget for which environment the shared virtualenv was made."""
    info = Path(tox_env.conf["env_dir"]) / ".tox-info.json"
    if info.is_file():
        notes = json.loads(info.read_text(encoding="utf-8"))
        if notes.pop("ToxEnv", None) is not None:
            info.write_text(json.dumps(notes, indent=2), encoding="utf-8")
