"""Identifies files by their first bytes, for errors about files without weights."""

import zipfile
from pathlib import Path

SIGNATURES = (
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    (b"PK\x03\x04", "a zip archive"),
    (b"\x80", "a pickle"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"version https://git-lfs", "a Git LFS pointer, not the file it points to"),
)
# Exported programs have no reliable signature; they are identified by their suffix.
PROGRAMS = {
    ".onnx": "an ONNX program",
    ".stablehlo": "a StableHLO program",
    ".pb": "a TensorFlow graph",
    ".tflite": "a TensorFlow Lite program",
    ".engine": "a TensorRT program",
}


def describe(path: Path) -> str:
    """Describes what a file holds, such as 'a PNG image'."""
    with path.open("rb") as file:
        start = file.read(1024)
    if not start:
        return "an empty file"
    if is_torchscript(path):
        return "a TorchScript program"
    if start[8:10] == b'{"':
        return "a safetensors file, perhaps truncated"
    for signature, name in SIGNATURES:
        if start.startswith(signature):
            damaged = signature.startswith(b"PK") and not zipfile.is_zipfile(path)
            return f"{name}, perhaps cut off" if damaged else name
    if start.lstrip().startswith(b"<"):
        return "a web page or other markup"
    if b"ustar" in start:
        return "a tar archive"
    return "text" if start.isascii() and b"\0" not in start else "binary data"


def is_torchscript(path: Path) -> bool:
    """True if `torch.jit.save` wrote the file."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError):  # damaged
        return False
