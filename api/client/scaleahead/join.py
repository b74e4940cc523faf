"""Edge: ``python -m scaleahead.join --hook URL -- COMMAND``: let a job save before this node joins it.

A node that joins a running job under torchrun restarts every worker at once, and what is not saved within torchrun's
30 seconds is lost. So the node asks the job's hook for a checkpoint first, and becomes COMMAND once the job stands
still. Where no hook answers nobody trains, and nothing is waited for.
"""

import argparse
import json
import os
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from typing import Any

from scaleahead.peers import opener

GRACE_SECONDS = 900.0
LOOK_SECONDS = 0.2
ANSWER_SECONDS = 5.0
MOST_BYTES = 64 * 1024


class TooLate(Exception):
    """The job did not save in time."""


class Asked:
    """A job's hook, as whoever asks for a checkpoint sees it. ``ca`` is a file of more certificates to trust."""

    def __init__(self, url: str, token: str | None = None, ca: str | None = None) -> None:
        self._url = url.rstrip("/")
        self._headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {token}"} if token else {})}
        self._open = opener(ca)

    def state(self) -> str | None:
        """Ask how the job stands; ``None`` where nobody answers. Raises ``urllib.error.HTTPError`` if it is refused."""
        try:
            # Behind its newest observation: only the state is wanted.
            return str(self._said(f"?after={10**15}", None)["state"])
        except urllib.error.HTTPError:
            raise
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def prepare(self, deadline: float) -> None:
        """Ask for a checkpoint. Raises ``OSError``."""
        self._said("/prepare", {"decision": "join", "deadline": deadline, "reason": "a node joins the job"})

    def _said(self, path: str, body: dict[str, Any] | None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        with self._open(urllib.request.Request(self._url + path, data, self._headers), timeout=ANSWER_SECONDS) as reply:
            return json.loads(reply.read(MOST_BYTES))


def wait(
    job: Asked,
    grace_seconds: float,
    clock: Callable[[], float] = time.monotonic,
    wall: Callable[[], float] = time.time,
    sleep: Callable[[float], None] = time.sleep,
) -> str:
    """Wait until the job has saved and stands still, and say why this node may join. Raises ``TooLate``.

    Whoever asked it (another node, the daemon), a job that stands still has saved.
    """
    ends = clock() + grace_seconds
    while True:
        state = job.state()
        if state is None:
            return "nobody trains"
        if state in ("ready", "done"):
            return f"the job is {state}"
        if clock() >= ends:
            raise TooLate(f"the job did not save within {grace_seconds:g} s")
        if state in ("training", "diverged"):
            job.prepare(wall() + ends - clock())
        sleep(LOOK_SECONDS)


def main(given: Sequence[str] | None = None) -> int:
    """Wait, then become the command; give 1 if the job did not save in time, or refuses to."""
    given = list(sys.argv[1:] if given is None else given)
    at = given.index("--") if "--" in given else len(given)
    parser = argparse.ArgumentParser(
        prog="python -m scaleahead.join", usage="%(prog)s --hook URL [options] -- COMMAND ...", description=__doc__
    )
    parser.add_argument("--hook", required=True, help="the hook of the job that this node may join")
    parser.add_argument("--grace", type=float, default=GRACE_SECONDS, help="seconds that the job may take to save")
    parser.add_argument("--ca", help="a file of certificates to trust (SCALEAHEAD_HOOK_CA)")
    options, command = parser.parse_args(given[:at]), given[at + 1 :]
    if not command:
        parser.error("no program is named - put it after --, as in: -- torchrun train.py")
    environ = os.environ
    try:
        why = wait(
            Asked(options.hook, environ.get("SCALEAHEAD_TOKEN"), options.ca or environ.get("SCALEAHEAD_HOOK_CA")),
            options.grace,
        )
    except (TooLate, OSError, ValueError) as error:
        print(f"scaleahead.join: {error} - this node does not join", file=sys.stderr)
        return 1
    print(f"scaleahead.join: {why}", file=sys.stderr, flush=True)
    os.execvp(command[0], command)


if __name__ == "__main__":
    raise SystemExit(main())
