"""`planetmesh dashboard` where it cannot be shown."""

from __future__ import annotations

import subprocess
import sys


def test_without_a_terminal_it_says_what_programs_use(say) -> None:
    said = say("dashboard")
    assert said.status == 2
    assert "needs a terminal" in said.error
    assert "status --json" in said.error
    assert say("dashboard", "--json").json["error"]["code"] == "bad_input"


def test_textual_is_loaded_by_no_other_command() -> None:
    script = (
        "import sys; from planetmesh.cli.main import run; run(['dashboard', '--help']); "
        "sys.exit('textual' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0
    assert "Keys: ? shows all of them" in done.stdout
