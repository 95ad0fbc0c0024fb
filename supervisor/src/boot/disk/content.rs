//! What stands where the data partition is or will be. Pure: it judges bytes. Its one duty is never to take for free
//! what somebody may want back.

/// Label of a data partition that is whole.
pub const LABEL: &str = "SARAI-DATA";
/// Label of one that is being made: nothing is on it yet.
pub const MAKING: &str = "SARAI-MAKING";
/// Bytes from the beginning that are to be read.
pub const FRONT: usize = 128 * 1024;
/// Where the second superblock of a file system with blocks of 4 KiB is, bytes from its beginning.
pub const SECOND: u64 = 32768 * 4096;
/// Bytes of it that are to be read.
pub const SUPERBLOCK: usize = 1024;

/// The facts of an ext superblock that count here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ext {
    /// Its label.
    pub label: String,
    /// Bytes the file system has.
    pub bytes: u64,
    /// Whether the kernel or a check met errors in it.
    pub errors: bool,
}

impl Ext {
    /// Reads a superblock; `None` if it is none of ext2, ext3, ext4.
    #[must_use]
    pub fn parse(block: &[u8]) -> Option<Self> {
        let half = |at: usize| Some(u16::from_le_bytes(block.get(at..at + 2)?.try_into().ok()?));
        let word = |at: usize| Some(u32::from_le_bytes(block.get(at..at + 4)?.try_into().ok()?));
        if half(0x38)? != 0xef53 {
            return None;
        }
        // INCOMPAT_64BIT: only then is the upper half of the number of blocks in use.
        let upper = if word(0x60)? & 0x80 == 0 { 0 } else { word(0x150)? };
        let blocks = u64::from(word(0x04)?) | u64::from(upper) << 32;
        let size = 1024u64.checked_shl(word(0x18)?.min(16))?;
        let name = block.get(0x78..0x88)?;
        let end = name.iter().position(|b| *b == 0).unwrap_or(name.len());
        Some(Self {
            label: String::from_utf8_lossy(&name[..end]).into_owned(),
            bytes: blocks.saturating_mul(size),
            errors: half(0x3a)? & 2 != 0,
        })
    }
}

/// What is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// Nothing that is known to be anything.
    Nothing,
    /// A data partition whose making was cut.
    HalfMade,
    /// A data partition.
    Data(Ext),
    /// Something else, by this name, or a damaged data partition.
    Other(String),
}

/// Judges the first [`FRONT`] bytes and the [`SUPERBLOCK`] bytes at [`SECOND`]; less where the disk has less.
#[must_use]
pub fn judge(front: &[u8], second: &[u8]) -> Content {
    if let Some(ext) = front.get(1024..1024 + SUPERBLOCK).and_then(Ext::parse) {
        return match ext.label.as_str() {
            LABEL => Content::Data(ext),
            MAKING => Content::HalfMade,
            other => Content::Other(format!("an ext file system labelled {:?}", cut(other))),
        };
    }
    if let Some(known) = known(front) {
        return Content::Other(known.to_owned());
    }
    match Ext::parse(second) {
        Some(ext) if ext.label == LABEL => {
            Content::Other("a data partition whose beginning is damaged".to_owned())
        }
        _ => Content::Nothing,
    }
}

fn cut(text: &str) -> String {
    text.chars().take(16).collect()
}

/// Other things that begin with a mark of their own.
fn known(front: &[u8]) -> Option<&'static str> {
    const MARKS: [(usize, &[u8], &str); 20] = [
        (0, b"XFSB", "an XFS file system"),
        (0, b"LUKS\xba\xbe", "an encrypted volume (LUKS)"),
        (0, b"hsqs", "a squashfs file system"),
        (0, b"\xe2\xe1\xf5\xe0", "an EROFS file system"),
        (3, b"NTFS    ", "an NTFS file system"),
        (3, b"EXFAT   ", "an exFAT file system"),
        (3, b"-FVE-FS-", "an encrypted volume (BitLocker)"),
        (54, b"FAT1", "a FAT file system"),
        (82, b"FAT32", "a FAT file system"),
        (32, b"NXSB", "an APFS container"),
        (512, b"LABELONE", "an LVM volume"),
        (512, b"EFI PART", "a partition table"),
        (1024, b"\x10\x20\xf5\xf2", "an F2FS file system"),
        (1024, b"\xe2\xe1\xf5\xe0", "an EROFS file system"),
        (1024, b"H+\x00\x04", "an HFS+ file system"),
        (4096, b"\xfc\x4e\x2b\xa9", "a member of a RAID"),
        (0, b"\xfc\x4e\x2b\xa9", "a member of a RAID"),
        (4086, b"SWAPSPACE2", "a swap area"),
        (32769, b"CD001", "an ISO 9660 file system"),
        (65600, b"_BHRfS_M", "a Btrfs file system"),
    ];
    MARKS
        .iter()
        .find(|(at, mark, _)| front.get(*at..at + mark.len()) == Some(*mark))
        .map(|(_, _, name)| *name)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A front with the superblock of a file system of so many 4 KiB blocks.
    pub fn ext(label: &str, blocks: u64) -> Vec<u8> {
        let mut front = vec![0; FRONT];
        let block = &mut front[1024..2048];
        block[0x38..0x3a].copy_from_slice(&[0x53, 0xef]);
        block[0x18] = 2;
        block[0x60] = 0x80;
        block[0x04..0x08].copy_from_slice(&blocks.to_le_bytes()[..4]);
        block[0x150..0x154].copy_from_slice(&blocks.to_le_bytes()[4..]);
        block[0x78..0x78 + label.len()].copy_from_slice(label.as_bytes());
        front
    }

    #[test]
    fn a_data_partition_is_known_with_its_size() {
        let Content::Data(ext) = judge(&ext(LABEL, (5 << 32) + 7), &[]) else {
            panic!("it was not known");
        };
        assert_eq!((ext.bytes, ext.errors), (((5 << 32) + 7) * 4096, false));
        let mut wrong = self::ext(LABEL, 100);
        wrong[1024 + 0x3a] = 3;
        assert!(matches!(
            judge(&wrong, &[]),
            Content::Data(Ext { errors: true, .. })
        ));
    }

    #[test]
    fn what_is_somebodys_is_never_nothing() {
        assert_eq!(judge(&ext(MAKING, 100), &[]), Content::HalfMade);
        assert!(matches!(judge(&ext("rootfs", 100), &[]), Content::Other(what) if what.contains("rootfs")));
        let second = ext(LABEL, 100)[1024..2048].to_vec();
        assert!(matches!(judge(&vec![0; FRONT], &second), Content::Other(what) if what.contains("damaged")));
        let second = ext(MAKING, 100)[1024..2048].to_vec();
        assert_eq!(judge(&vec![0; FRONT], &second), Content::Nothing);
        for (at, mark) in [
            (0usize, &b"XFSB"[..]),
            (65600, b"_BHRfS_M"),
            (3, b"NTFS    "),
            (512, b"LABELONE"),
        ] {
            let mut front = vec![0x5a; FRONT];
            front[at..at + mark.len()].copy_from_slice(mark);
            assert!(matches!(judge(&front, &[]), Content::Other(_)), "{mark:?}");
        }
    }

    #[test]
    fn what_mke2fs_writes_is_understood() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data.img");
        let file = std::fs::File::create(&path).unwrap();
        file.set_len(600 << 20).unwrap();
        for (label, found) in [(MAKING, 0), (LABEL, 1)] {
            let status = std::process::Command::new("/sbin/mke2fs")
                .args([
                    "-q", "-F", "-t", "ext4", "-b", "4096", "-O", "verity", "-L", label,
                ])
                .arg(&path)
                .status()
                .unwrap();
            assert!(status.success());
            let bytes = std::fs::read(&path).unwrap();
            let second = usize::try_from(SECOND).unwrap();
            let said = judge(&bytes[..FRONT], &bytes[second..second + SUPERBLOCK]);
            match found {
                0 => assert_eq!(said, Content::HalfMade),
                _ => assert!(
                    matches!(&said, Content::Data(ext) if ext.bytes == 600 << 20),
                    "{said:?}"
                ),
            }
            // With the beginning gone the second superblock speaks.
            let said = judge(&[0; FRONT], &bytes[second..second + SUPERBLOCK]);
            assert_eq!(matches!(said, Content::Other(_)), found == 1, "{said:?}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(front in proptest::collection::vec(any::<u8>(), 0..3000), second in proptest::collection::vec(any::<u8>(), 0..1100)) {
            let _ = judge(&front, &second);
        }
    }
}
