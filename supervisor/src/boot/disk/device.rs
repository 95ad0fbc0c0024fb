//! Disks as the kernel shows them: reading and writing their ends, and telling the kernel of a partition it has not
//! read. Thin: what is written where is decided elsewhere.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::libc;

use super::content::{self, Content};
use super::table::{DATA_START, Edges, Entry, SECTOR};

/// Time a partition's device has to appear.
const PATIENCE: Duration = Duration::from_secs(5);

/// A whole disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// Its name, as in `/dev`.
    pub name: String,
    /// Sectors of 512 bytes.
    pub sectors: u64,
    /// Whether it is made to be pulled out.
    pub removable: bool,
    folder: PathBuf,
    dev: PathBuf,
}

impl Disk {
    /// Disks with hardware behind them that can carry an image, by name. `block` is `/sys/block`, `dev` is `/dev`.
    #[must_use]
    pub fn list(block: &Path, dev: &Path) -> Vec<Self> {
        let mut names: Vec<String> = fs::read_dir(block)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        names.sort();
        names
            .into_iter()
            .filter_map(|name| {
                let folder = block.join(&name);
                let number = |file: &str| number(&folder.join(file));
                let real = folder.join("device").exists();
                // The image's table is in units of 512 bytes: elsewhere it means other places.
                let fits = number("queue/logical_block_size") == Some(SECTOR);
                (real && fits).then_some(())?;
                Some(Self {
                    sectors: number("size").filter(|sectors| *sectors > 0)?,
                    removable: number("removable") == Some(1),
                    name,
                    folder,
                    dev: dev.to_owned(),
                })
            })
            .collect()
    }

    /// Its device.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.dev.join(&self.name)
    }

    /// Reads its two ends.
    pub fn edges(&self) -> io::Result<Edges> {
        let places = Edges::places(self.sectors).ok_or_else(|| io::Error::other("it is too small"))?;
        let file = File::open(self.path())?;
        let [head, tail] = places.map(|(at, length)| {
            let mut bytes = vec![0; length];
            file.read_exact_at(&mut bytes, at).map(|()| bytes)
        });
        Edges::new(self.sectors, head?, tail?).ok_or_else(|| io::Error::other("its size changed"))
    }

    /// Writes its two ends, the second copy of the table first: each is on the disk before the other is touched.
    pub fn write(&self, edges: &Edges) -> io::Result<()> {
        let places = Edges::places(self.sectors).ok_or_else(|| io::Error::other("it is too small"))?;
        let file = File::options().read(true).write(true).open(self.path())?;
        for ((at, _), bytes) in places.into_iter().zip(edges.ends()).rev() {
            file.write_all_at(bytes, at)?;
            file.sync_all()?;
        }
        Ok(())
    }

    /// What stands where the data goes.
    pub fn content(&self) -> io::Result<Content> {
        let file = File::open(self.path())?;
        let from = DATA_START * SECTOR;
        let front = read_up_to(&file, from, content::FRONT)?;
        let second = read_up_to(&file, from + content::SECOND, content::SUPERBLOCK)?;
        Ok(content::judge(&front, &second))
    }

    /// Name of a partition's device.
    #[must_use]
    pub fn partition(&self, number: u32) -> String {
        let between = if self.name.ends_with(|c: char| c.is_ascii_digit()) {
            "p"
        } else {
            ""
        };
        format!("{}{between}{number}", self.name)
    }

    /// Makes the kernel know `entry` as it is, and waits for its device.
    pub fn know(&self, entry: &Entry) -> Result<PathBuf, String> {
        let name = self.partition(entry.number);
        let folder = self.folder.join(&name);
        let (start, size) = (number(&folder.join("start")), number(&folder.join("size")));
        let told = match (start, size) {
            (Some(start), Some(size)) if (start, size) == (entry.first, entry.sectors()) => Ok(()),
            (Some(start), Some(_)) if start == entry.first => self.tell(entry, RESIZE),
            (Some(_), Some(_)) => {
                return Err(format!("the kernel has another {name}: it must be restarted"));
            }
            _ => self.tell(entry, ADD),
        };
        told.map_err(|e| format!("the kernel does not take {name}: {e}"))?;
        self.node(entry.number)
    }

    /// Waits for a partition's device.
    pub fn node(&self, number: u32) -> Result<PathBuf, String> {
        let path = self.dev.join(self.partition(number));
        let begun = Instant::now();
        while !path.exists() {
            if begun.elapsed() > PATIENCE {
                return Err(format!("{} does not appear", path.display()));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(path)
    }

    fn tell(&self, entry: &Entry, what: libc::c_int) -> io::Result<()> {
        let bytes = |sectors: u64| {
            i64::try_from(sectors.saturating_mul(SECTOR)).map_err(|_| io::Error::other("it is too large"))
        };
        let mut partition = BlkpgPartition {
            start: bytes(entry.first)?,
            length: bytes(entry.sectors())?,
            number: libc::c_int::try_from(entry.number).map_err(io::Error::other)?,
            names: [0; 128],
        };
        let order = BlkpgOrder {
            what,
            flags: 0,
            length: libc::c_int::try_from(std::mem::size_of::<BlkpgPartition>()).map_err(io::Error::other)?,
            partition: &raw mut partition,
        };
        let disk = File::open(self.path())?;
        // SAFETY: the structures are the kernel's (`linux/blkpg.h`), checked below; both live through the call, which
        // only reads them.
        unsafe { blkpg(disk.as_raw_fd(), &raw const order) }?;
        Ok(())
    }
}

const ADD: libc::c_int = 1;
const RESIZE: libc::c_int = 3;

/// `struct blkpg_partition`.
#[repr(C)]
struct BlkpgPartition {
    start: i64,
    length: i64,
    number: libc::c_int,
    names: [u8; 128],
}

/// `struct blkpg_ioctl_arg`.
#[repr(C)]
struct BlkpgOrder {
    what: libc::c_int,
    flags: libc::c_int,
    length: libc::c_int,
    partition: *mut BlkpgPartition,
}

nix::ioctl_write_ptr_bad!(
    /// `BLKPG`: adds, resizes or removes one partition in the kernel's view of a disk.
    blkpg,
    0x1269,
    BlkpgOrder
);

fn number(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// As many bytes as there are, at most `length`.
pub(super) fn read_up_to(file: &File, from: u64, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    let mut got = 0;
    while got < length {
        match file.read_at(&mut bytes[got..], from + got as u64) {
            Ok(0) => break,
            Ok(n) => got += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    bytes.truncate(got);
    Ok(bytes)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A `/sys/block` and a `/dev` of files, one disk each: name, bytes, logical sector, removable.
    pub fn world(disks: &[(&str, u64, u64, bool)]) -> (tempfile::TempDir, Vec<Disk>) {
        let dir = tempfile::tempdir().unwrap();
        let (block, dev) = (dir.path().join("block"), dir.path().join("dev"));
        fs::create_dir(&dev).unwrap();
        for (name, bytes, sector, removable) in disks {
            let folder = block.join(name);
            fs::create_dir_all(folder.join("queue")).unwrap();
            if !name.starts_with("loop") {
                fs::create_dir(folder.join("device")).unwrap();
            }
            fs::write(folder.join("size"), format!("{}\n", bytes / SECTOR)).unwrap();
            fs::write(folder.join("removable"), format!("{}\n", u8::from(*removable))).unwrap();
            fs::write(folder.join("queue/logical_block_size"), format!("{sector}\n")).unwrap();
            File::create(dev.join(name)).unwrap().set_len(*bytes).unwrap();
        }
        let list = Disk::list(&block, &dev);
        (dir, list)
    }

    #[test]
    fn only_disks_with_hardware_and_ordinary_sectors_count() {
        let (_dir, list) = world(&[
            ("sda", 1 << 30, 512, false),
            ("loop0", 1 << 30, 512, false),
            ("nvme0n1", 1 << 30, 4096, false),
            ("sdb", 0, 512, true),
            ("mmcblk0", 1 << 30, 512, true),
        ]);
        let names: Vec<&str> = list.iter().map(|d| d.name.as_str()).collect();
        assert_eq!(names, ["mmcblk0", "sda"]);
        assert!(list[0].removable && !list[1].removable);
        assert_eq!(
            (list[0].partition(2), list[1].partition(2)),
            ("mmcblk0p2".into(), "sda2".into())
        );
    }

    #[test]
    fn the_ends_are_written_where_they_are_read() {
        let (_dir, list) = world(&[("sda", 1 << 30, 512, false)]);
        let edges = super::super::table::tests::flashed((1 << 30) / SECTOR);
        list[0].write(&edges).unwrap();
        assert_eq!(list[0].edges().unwrap(), edges);
        assert_eq!(list[0].content().unwrap(), Content::Nothing);
    }

    #[test]
    fn the_structures_are_the_kernels() {
        assert_eq!(std::mem::size_of::<BlkpgPartition>(), 152);
        assert_eq!(std::mem::offset_of!(BlkpgPartition, number), 16);
        assert_eq!(std::mem::size_of::<BlkpgOrder>(), 24);
        assert_eq!(std::mem::offset_of!(BlkpgOrder, partition), 16);
    }

    #[test]
    fn a_device_that_never_comes_is_an_error() {
        let (_dir, list) = world(&[("sda", 1 << 30, 512, false)]);
        assert!(list[0].node(7).unwrap_err().contains("sda7"));
    }
}
