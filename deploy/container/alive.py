"""Edge: the container's health check. Exit status 0 if the daemon in this container answers that it lives."""

import os
import ssl
import sys
from urllib.request import HTTPSHandler, ProxyHandler, build_opener

SECONDS = 4.0


def alive(url: str) -> bool:
    """Ask ``/healthz``. The certificate is not checked: it names the host outside, and this call never leaves it."""
    trusting = ssl.create_default_context()
    trusting.check_hostname = False
    trusting.verify_mode = ssl.CERT_NONE
    try:
        with build_opener(ProxyHandler({}), HTTPSHandler(context=trusting)).open(
            f"{url}/healthz", timeout=SECONDS
        ) as got:
            return bool(got.status == 200)
    except OSError:
        return False


if __name__ == "__main__":
    sys.exit(0 if alive(os.environ.get("SCALEAHEAD_ALIVE_URL", "https://127.0.0.1:8642")) else 1)
