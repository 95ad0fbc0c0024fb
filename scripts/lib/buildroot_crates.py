"""The crates of Cargo.lock as downloads of Buildroot, each with its hash."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "buildroot/package/sarai-crates"
REGISTRY = "registry+https://github.com/rust-lang/crates.io-index"
HEAD = "# Made from Cargo.lock: scripts/check-buildroot --update. Do not edit.\n"


def locked(lock=ROOT / "Cargo.lock"):
    """Name, version and SHA-256 of every crate that comes from the registry, in order."""
    crates = []
    for package in tomllib.loads(lock.read_text(encoding="utf-8"))["package"]:
        source = package.get("source")
        if source is None:
            continue
        if source != REGISTRY or "checksum" not in package:
            raise ValueError(f"{package['name']} {package['version']} of {source} can not be downloaded with a hash")
        crates.append((package["name"], package["version"], package["checksum"]))
    return sorted(crates)


def files(crates):
    """What the package's files have to hold: path, text."""
    urls = " \\\n".join(f"\thttps://static.crates.io/crates/{n}/{n}-{v}.crate" for n, v, _ in crates)
    sums = "\n".join(f"sha256  {s}  {n}-{v}.crate" for n, v, s in crates)
    return {
        FOLDER / "crates.list": f"{HEAD}SARAI_CRATES_URLS = \\\n{urls}\n",
        FOLDER / "sarai-crates.hash": f"{HEAD}{sums}\n",
    }


def update():
    """Writes the files."""
    for path, text in files(locked()).items():
        aside = path.with_suffix(path.suffix + ".new")
        aside.write_text(text, encoding="utf-8")
        aside.replace(path)


def stale():
    """The files that do not belong to Cargo.lock."""
    return [p for p, text in files(locked()).items() if not p.is_file() or p.read_text(encoding="utf-8") != text]
