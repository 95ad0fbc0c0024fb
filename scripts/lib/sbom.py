"""Writes what an image is made of, as CycloneDX 1.6.

    sbom.py SHOW-INFO METADATA LOCK NAME VERSION OUT

SHOW-INFO is the output of Buildroot's "make show-info", METADATA that of "cargo metadata" for the image's platform,
LOCK the Cargo.lock with the crates' sums. OUT depends on nothing else, so that equal images have equal documents.
"""

import hashlib
import json
import sys
import tomllib
import uuid
from pathlib import Path

# Largest input, bytes.
MAX_INPUT = 64 << 20
REGISTRY = "registry+https://github.com/rust-lang/crates.io-index"


def read(path):
    """A file's text, if it is not absurdly long."""
    path = Path(path)
    if path.stat().st_size > MAX_INPUT:
        raise ValueError(f"{path} has {path.stat().st_size} bytes")
    return path.read_text(encoding="utf-8")


def sums(hash_files, sources):
    """SHA-256 of downloaded files, by name, out of Buildroot's hash files."""
    found = {}
    for path in hash_files:
        for line in Path(path).read_text(encoding="utf-8").splitlines():
            words = line.split()
            if len(words) == 3 and words[0] == "sha256" and words[2] in sources:
                found[words[2]] = words[1]
    return found


def of_buildroot(info, base):
    """Components for the packages that end in the image."""
    for name, package in sorted(info.items()):
        if package.get("type") != "target" or package.get("virtual") or name in ("sarai", "sarai-crates"):
            continue
        component = {
            "type": "firmware" if "firmware" in name or "microcode" in name else "library",
            "bom-ref": f"buildroot/{name}",
            "name": name,
            "version": package.get("version") or "unversioned",
        }
        if package.get("licenses"):
            component["licenses"] = [{"license": {"name": package["licenses"]}}]
        if package.get("cpe-id"):
            component["cpe"] = package["cpe-id"]
        sources = {d["source"] for d in package.get("downloads", [])}
        references = []
        hashes = [base / h if not Path(h).is_absolute() else Path(h) for h in package.get("hashes", [])]
        known = sums([h for h in hashes if h.is_file()], sources)
        for download in package.get("downloads", []):
            # The first address is the maker's own unless a mirror was set; the scheme before "+" is Buildroot's.
            uri = next((u.split("+", 1)[-1] for u in download.get("uris", []) if "http" in u), None)
            if uri is None:
                continue
            reference = {"type": "source-distribution", "url": uri.split("|", 1)[-1]}
            if not reference["url"].endswith(download["source"]):
                reference["url"] = reference["url"].rstrip("/") + "/" + download["source"]
            if download["source"] in known:
                reference["hashes"] = [{"alg": "SHA-256", "content": known[download["source"]]}]
            references.append(reference)
        if references:
            component["externalReferences"] = references
        yield component


def of_cargo(metadata, lock):
    """Components for the crates that are linked into the programs or run while they are built."""
    checksums = {
        (p["name"], p["version"]): p["checksum"] for p in tomllib.loads(lock)["package"] if p.get("source") == REGISTRY
    }
    used = {node["id"] for node in metadata["resolve"]["nodes"]}
    for package in sorted(metadata["packages"], key=lambda p: (p["name"], p["version"])):
        if package["id"] not in used or package["source"] is None:
            continue
        component = {
            "type": "library",
            "bom-ref": f"cargo/{package['name']}@{package['version']}",
            "name": package["name"],
            "version": package["version"],
            "purl": f"pkg:cargo/{package['name']}@{package['version']}",
        }
        if package.get("license"):
            component["licenses"] = [{"expression": package["license"].replace("/", " OR ")}]
        checksum = checksums.get((package["name"], package["version"]))
        if checksum:
            component["hashes"] = [{"alg": "SHA-256", "content": checksum}]
        yield component


def document(info, metadata, lock, base, name, version):
    """The whole document."""
    components = [*of_buildroot(info, base), *of_cargo(metadata, lock)]
    if len(components) < 2:
        raise ValueError("nothing is in the image")
    digest = hashlib.sha256(json.dumps([name, version, components], sort_keys=True).encode()).digest()
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.UUID(bytes=digest[:16], version=4)}",
        "version": 1,
        "metadata": {
            "component": {
                "type": "operating-system",
                "bom-ref": "image",
                "name": name,
                "version": version,
                "licenses": [{"expression": "MIT OR Apache-2.0"}],
            }
        },
        "components": components,
        "dependencies": [{"ref": "image", "dependsOn": [c["bom-ref"] for c in components]}],
    }


def main(arguments):
    """The command."""
    if len(arguments) != 6:
        print(__doc__, file=sys.stderr)
        return 2
    info, metadata, lock, name, version, out = arguments
    try:
        text = document(json.loads(read(info)), json.loads(read(metadata)), read(lock), Path.cwd(), name, version)
        Path(out).write_text(json.dumps(text, indent=1) + "\n", encoding="utf-8")
    except (OSError, ValueError, KeyError) as error:
        print(f"sbom: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
