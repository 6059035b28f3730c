"""A private network for the bench: only a loopback of its own, so that no port collides or is seen from outside.

Ray's HAProxy binds 8404 and 9101 on all addresses and cannot be told otherwise; here that reaches nobody.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import struct
import subprocess
import sys

INSIDE = "POINTSMAN_BENCH_NETNS"
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 0x1


def raise_loopback() -> None:
    """Set interface lo up in the current network namespace."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        request = fcntl.ioctl(handle, SIOCGIFFLAGS, struct.pack("16sH14s", b"lo", 0, b""))
        flags = struct.unpack_from("16sH", request)[1] | IFF_UP
        fcntl.ioctl(handle, SIOCSIFFLAGS, struct.pack("16sH14s", b"lo", flags, b""))


def enter(module: str) -> bool:
    """Start this program (`python -m module`) anew inside a private network where the system allows it.

    Returns True inside one, False where there is none to be had. In the outer process it never returns.
    """
    if INSIDE in os.environ:
        raise_loopback()
        return True
    unshare = shutil.which("unshare")
    prefix = [unshare or "", "--map-root-user", "--net"]
    if unshare is None or subprocess.run([*prefix, "true"], capture_output=True).returncode != 0:
        return False
    return os.execve(prefix[0], [*prefix, sys.executable, "-m", module, *sys.argv[1:]], {**os.environ, INSIDE: "1"})
