"""Writes the block map of a disk image, for bmaptool: which blocks must be written to a disk.

    bmap.py IMAGE BMAP

A block may be left out if it is zero in the image and nobody reads it as zero. That is so for unused clusters of the
EFI partition; its tables and directories are read, so they are in the map whatever they hold.
Format: bmap 2.0 (https://github.com/yoctoproject/bmaptool).
"""

import hashlib
import struct
import sys
import uuid

BLOCK = 4096
SECTOR = 512
ESP = uuid.UUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")
# Largest partition table that is read, entries.
MAX_ENTRIES = 1024


def partitions(image):
    """Offset and length in bytes of the EFI partitions of a GPT."""
    image.seek(SECTOR)
    header = image.read(SECTOR)
    if header[:8] != b"EFI PART":
        raise ValueError("there is no GPT")
    at, count, size = struct.unpack_from("<QII", header, 72)
    if not 0 < count <= MAX_ENTRIES or size < 128:
        raise ValueError(f"a GPT of {count} entries of {size} bytes")
    image.seek(at * SECTOR)
    for _ in range(count):
        entry = image.read(size)
        kind = uuid.UUID(bytes_le=entry[:16])
        first, last = struct.unpack_from("<QQ", entry, 32)
        if kind == ESP:
            yield first * SECTOR, (last - first + 1) * SECTOR


def tables_of_fat32(image, offset):
    """Length in bytes of everything before the first cluster: boot sectors and allocation tables."""
    image.seek(offset)
    boot = image.read(SECTOR)
    sector, = struct.unpack_from("<H", boot, 11)
    reserved, tables = struct.unpack_from("<HB", boot, 14)
    length, = struct.unpack_from("<I", boot, 36)
    if boot[510:] != b"\x55\xaa" or boot[82:87] != b"FAT32" or not sector or not length:
        raise ValueError(f"there is no FAT32 at byte {offset}")
    return (reserved + tables * length) * sector + boot[13] * sector


def mapped(image, size):
    """Ranges of blocks, first and last, that hold something."""
    wanted = [(0, BLOCK * 5), (max(0, size - 34 * SECTOR), size)]
    for offset, _ in partitions(image):
        wanted.append((offset, offset + tables_of_fat32(image, offset)))
    ranges = []
    image.seek(0)
    count = (size + BLOCK - 1) // BLOCK
    for block in range(count):
        data = image.read(BLOCK)
        begin, end = block * BLOCK, (block + 1) * BLOCK
        if not data.strip(b"\0") and not any(begin < last and end > first for first, last in wanted):
            continue
        if ranges and ranges[-1][1] == block - 1:
            ranges[-1][1] = block
        else:
            ranges.append([block, block])
    return ranges, count


def digest(image, first, last):
    """SHA-256 of a range of blocks."""
    image.seek(first * BLOCK)
    return hashlib.sha256(image.read((last - first + 1) * BLOCK)).hexdigest()


def bmap(image, size):
    """The map as text."""
    ranges, count = mapped(image, size)
    lines = []
    for first, last in ranges:
        where = f"{first}-{last}" if last > first else f"{first}"
        lines.append(f'        <Range chksum="{digest(image, first, last)}"> {where} </Range>')
    zero = "0" * 64
    text = "\n".join([
        '<?xml version="1.0" ?>',
        '<bmap version="2.0">',
        f"    <ImageSize> {size} </ImageSize>",
        f"    <BlockSize> {BLOCK} </BlockSize>",
        f"    <BlocksCount> {count} </BlocksCount>",
        f"    <MappedBlocksCount> {sum(last - first + 1 for first, last in ranges)} </MappedBlocksCount>",
        "    <ChecksumType> sha256 </ChecksumType>",
        f"    <BmapFileChecksum> {zero} </BmapFileChecksum>",
        "    <BlockMap>",
        *lines,
        "    </BlockMap>",
        "</bmap>",
        "",
    ])  # fmt: skip
    # The sum of the map itself, with zeros where it stands.
    return text.replace(zero, hashlib.sha256(text.encode()).hexdigest(), 1)


def main(arguments):
    """The command."""
    if len(arguments) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        with open(arguments[0], "rb") as image:
            size = image.seek(0, 2)
            text = bmap(image, size)
        with open(arguments[1], "w", encoding="utf-8") as out:
            out.write(text)
    except (OSError, ValueError, struct.error) as error:
        print(f"bmap: {arguments[0]}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
