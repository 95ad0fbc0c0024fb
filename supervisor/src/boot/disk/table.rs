//! The partition table of a disk: which entries it has, and the bytes of one with an entry more or a longer one.
//! Pure: it works on the two ends of a disk in memory. Both have to be whole before the other is touched, so that a
//! power cut between any two bytes leaves a table that firmware, kernel and this program can read; who writes them in
//! which order is [`super::device`].

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read, Seek, SeekFrom, Write};

use gpt::disk::LogicalBlockSize;
use gpt::partition::Partition;
use gpt::partition_types::{self, Type};
use gpt::{GptConfig, GptDisk};

/// Bytes of a sector. Images are laid out for these; a disk with other logical sectors cannot hold one.
pub const SECTOR: u64 = 512;
/// Name of the boot partition's entry: what makes a disk ours.
pub const ESP_NAME: &str = "SARAI-ESP";
/// Name of the data partition's entry.
pub const DATA_NAME: &str = "SARAI-DATA";
/// Where the data partition of every image begins, sectors: 512 MiB. An image ends before it, its second table
/// included, so that an image written over an older one leaves the data alone.
pub const DATA_START: u64 = (512 << 20) / SECTOR;
/// Sectors of the beginning of a disk: protective record, header, 128 entries of 128 bytes.
const HEAD: u64 = 34;
/// Sectors of its end: 128 entries, header.
const TAIL: u64 = 33;
/// The only size of entries, and the largest number of them, that is understood.
const ENTRY: (u32, u32) = (128, 128);
/// Partitions begin and end on multiples of this, sectors: 1 MiB.
pub const ALIGN: u64 = (1 << 20) / SECTOR;

/// The two ends of a disk, in memory.
#[derive(Clone, PartialEq, Eq)]
pub struct Edges {
    sectors: u64,
    head: Vec<u8>,
    tail: Vec<u8>,
    at: u64,
}

impl fmt::Debug for Edges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "edges of {} sectors", self.sectors)
    }
}

impl Edges {
    /// What is to be read of a disk of so many sectors: (offset, length) of head and tail, bytes. `None` for a disk
    /// that is too small for a table.
    #[must_use]
    pub fn places(sectors: u64) -> Option<[(u64, usize); 2]> {
        let bytes = |sectors: u64| usize::try_from(sectors * SECTOR).unwrap_or(0);
        (sectors > HEAD + TAIL && sectors <= u64::MAX / SECTOR)
            .then(|| [(0, bytes(HEAD)), ((sectors - TAIL) * SECTOR, bytes(TAIL))])
    }

    /// The ends as they were read; `None` if they have not the lengths of [`Edges::places`].
    #[must_use]
    pub fn new(sectors: u64, head: Vec<u8>, tail: Vec<u8>) -> Option<Self> {
        let places = Self::places(sectors)?;
        ([head.len(), tail.len()] == places.map(|(_, length)| length)).then_some(Self {
            sectors,
            head,
            tail,
            at: 0,
        })
    }

    /// The bytes of both ends.
    #[must_use]
    pub fn ends(&self) -> [&[u8]; 2] {
        [&self.head, &self.tail]
    }

    /// The part that holds the position, and where in it.
    fn part(&mut self) -> io::Result<&mut [u8]> {
        let tail = (self.sectors - TAIL) * SECTOR;
        let (part, from) = if self.at >= tail {
            (&mut self.tail, self.at - tail)
        } else {
            (&mut self.head, self.at)
        };
        let from = usize::try_from(from).unwrap_or(usize::MAX);
        part.get_mut(from..)
            .filter(|rest| !rest.is_empty())
            .ok_or_else(|| io::Error::other("the table is not at the disk's ends"))
    }

    /// Makes a header unreadable in memory, so that the other one counts.
    fn hide(&mut self, primary: bool) {
        if primary {
            self.head[512..520].fill(0);
        } else {
            let at = self.tail.len() - 512;
            self.tail[at..at + 8].fill(0);
        }
    }

    /// Hides headers whose form is not the usual one: the reader would allocate what they ask for.
    fn hide_unusual(&mut self) {
        let number = |bytes: &[u8], at: usize| {
            bytes
                .get(at..at + 4)
                .and_then(|b| b.try_into().ok())
                .map_or(0, u32::from_le_bytes)
        };
        let usual = |bytes: &[u8]| number(bytes, 84) == ENTRY.0 && (1..=ENTRY.1).contains(&number(bytes, 80));
        if !usual(&self.head[512..1024]) {
            self.hide(true);
        }
        if !usual(&self.tail[self.tail.len() - 512..]) {
            self.hide(false);
        }
    }
}

impl Read for Edges {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let part = self.part()?;
        let count = part.len().min(to.len());
        to[..count].copy_from_slice(&part[..count]);
        self.at += count as u64;
        Ok(count)
    }
}

impl Write for Edges {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        let part = self.part()?;
        let count = part.len().min(from.len());
        part[..count].copy_from_slice(&from[..count]);
        self.at += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Edges {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => (self.sectors * SECTOR).checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or_else(|| io::Error::other("a place before the disk"))?;
        Ok(self.at)
    }
}

/// One partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its number, from 1.
    pub number: u32,
    /// First sector.
    pub first: u64,
    /// Last sector.
    pub last: u64,
    /// Name.
    pub name: String,
    /// Whether it says that it is an EFI system partition.
    pub esp: bool,
}

impl Entry {
    /// Sectors in it.
    #[must_use]
    pub fn sectors(&self) -> u64 {
        self.last.saturating_sub(self.first).saturating_add(1)
    }
}

/// A partition table that was read.
#[derive(Debug, Clone)]
pub struct Table {
    disk: GptDisk<Edges>,
    /// Both copies are there, whole, where they belong, and say the same.
    sound: bool,
    original: Edges,
}

impl Table {
    /// Reads the table from the ends of a disk: the first copy if header and entries are whole, else the second.
    /// `None` where there is none.
    #[must_use]
    pub fn read(edges: &Edges) -> Option<Self> {
        let mut usual = edges.clone();
        usual.hide_unusual();
        let open = |edges: &Edges| {
            GptConfig::new()
                .writable(true)
                .logical_block_size(LogicalBlockSize::Lb512)
                .open_from_device(edges.clone())
                .ok()
        };
        let without = |primary: bool| {
            let mut one = usual.clone();
            one.hide(primary);
            open(&one)
        };
        let (first, second) = (without(false), without(true));
        let same = |a: &GptDisk<Edges>, b: &GptDisk<Edges>| {
            a.partitions() == b.partitions()
                && a.guid() == b.guid()
                && a.header().backup_lba == edges.sectors - 1
                && a.header().last_usable == b.header().last_usable
        };
        let sound = first
            .as_ref()
            .zip(second.as_ref())
            .is_some_and(|(a, b)| same(a, b));
        let disk = first.or(second)?;
        let me = Self {
            disk,
            sound,
            original: edges.clone(),
        };
        me.entries_hold().then_some(me)
    }

    /// Entries lie on the disk, in order, and share no sector.
    fn entries_hold(&self) -> bool {
        let mut entries = self.entries();
        entries.sort_by_key(|entry| entry.first);
        let each = entries
            .iter()
            .all(|e| e.first >= HEAD && e.first <= e.last && e.last < self.original.sectors);
        each && entries.windows(2).all(|pair| pair[0].last < pair[1].first)
    }

    /// The partitions, by number.
    #[must_use]
    pub fn entries(&self) -> Vec<Entry> {
        self.disk
            .partitions()
            .iter()
            .filter(|(_, p)| p.is_used())
            .map(|(number, p)| Entry {
                number: *number,
                first: p.first_lba,
                last: p.last_lba,
                name: p.name.clone(),
                esp: p.part_type_guid.guid == partition_types::EFI.guid,
            })
            .collect()
    }

    /// The boot partition, if the disk is ours.
    #[must_use]
    pub fn esp(&self) -> Option<Entry> {
        self.entries().into_iter().find(|e| e.esp && e.name == ESP_NAME)
    }

    /// Whether both copies are where they belong and say the same.
    #[must_use]
    pub fn sound(&self) -> bool {
        self.sound
    }

    /// Last sector that a partition which begins at `first` can have: up to the next one, or to the disk's end.
    #[must_use]
    pub fn room_from(&self, first: u64) -> u64 {
        let next = self
            .entries()
            .iter()
            .map(|e| e.first)
            .filter(|other| *other > first)
            .min();
        let end = next.unwrap_or(self.original.sectors - TAIL);
        (end / ALIGN * ALIGN).saturating_sub(1)
    }

    /// Number that a new partition would get.
    #[must_use]
    pub fn free_number(&self) -> u32 {
        let taken: Vec<u32> = self.entries().iter().map(|e| e.number).collect();
        (1..).find(|n| !taken.contains(n)).unwrap_or(u32::MAX)
    }

    /// The ends of the disk with `entry` in the table, new or in place of the one with its number, both copies at the
    /// very ends. `identity` is its unique identifier if it is new.
    pub fn with(&self, entry: &Entry, identity: [u8; 16]) -> Result<Edges, String> {
        let mut parts: BTreeMap<u32, Partition> = self
            .disk
            .partitions()
            .iter()
            .filter(|(_, p)| p.is_used())
            .map(|(number, p)| (*number, p.clone()))
            .collect();
        let (kind, guid) = parts.get(&entry.number).map_or_else(
            || {
                (
                    partition_types::LINUX_FS,
                    uuid::Builder::from_random_bytes(identity).into_uuid(),
                )
            },
            |known: &Partition| (Type::clone(&known.part_type_guid), known.part_guid),
        );
        let flags = parts.get(&entry.number).map_or(0, |known| known.flags);
        parts.insert(
            entry.number,
            Partition {
                part_type_guid: kind,
                part_guid: guid,
                first_lba: entry.first,
                last_lba: entry.last,
                flags,
                name: entry.name.clone(),
            },
        );
        // The writer closes gaps, and a partition whose number changed is another one to everybody else.
        if !parts
            .keys()
            .copied()
            .eq(1..=u32::try_from(parts.len()).unwrap_or(0))
        {
            return Err("the numbers of its partitions have gaps".to_owned());
        }
        let mut disk = self.disk.clone();
        let wrong = |e: gpt::GptError| format!("its partition table cannot be written: {e}");
        disk.update_partitions(parts).map_err(wrong)?;
        disk.write_inplace().map_err(wrong)?;
        let mut made = disk.take_device();
        // The boot code and whatever else stands before the table stays; the protective entry covers the whole disk.
        made.head[..446].copy_from_slice(&self.original.head[..446]);
        let whole = u32::try_from(self.original.sectors - 1).unwrap_or(u32::MAX);
        gpt::mbr::ProtectiveMBR::with_lb_size(whole)
            .update_conservative(&mut made)
            .map_err(|e| format!("its protective record cannot be written: {e}"))?;
        made.at = 0;
        // What was made is read as anybody will read it, before the disk has it.
        let again = Self::read(&made).ok_or("the partition table that was made cannot be read")?;
        if again.sound && again.entries().contains(entry) {
            Ok(made)
        } else {
            Err("the partition table that was made is not what was meant".to_owned())
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
