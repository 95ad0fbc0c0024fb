//! What is done with the boot disk, decided from its partition table and from what stands where the data goes. Pure.
//!
//! The order makes every moment one that the next boot goes on from. The file system is made first, under another
//! label and without an entry in the table; its real label is its last step but one, the entry the last. So what is
//! blank or carries the other label holds nothing and is made again; what carries the real label is whole, whether a
//! power cut or an image written anew took its entry away; and what has an entry is used and never made.

use super::content::Content;
use super::table::{ALIGN, DATA_NAME, DATA_START, Entry, SECTOR, Table};

/// Least size of a data partition, sectors: 256 MiB.
pub const LEAST: u64 = (256 << 20) / SECTOR;

/// What is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// The partition is there. `entry` is how it is to be, which the table says already unless `write`.
    Use {
        /// The partition.
        entry: Entry,
        /// Whether the table is to be written.
        write: bool,
    },
    /// A file system is there without an entry: it gets one, then as above.
    Enter(Entry),
    /// There is room: a file system is made, then as above.
    Make(Entry),
    /// The disk is left as it is.
    Refuse(String),
}

/// Decides. `content` is what stands at [`DATA_START`], and only looked at where the table has no data partition.
#[must_use]
pub fn decide(table: &Table, content: &Content) -> Plan {
    let entries = table.entries();
    if let Some(there) = entries.iter().find(|e| e.name == DATA_NAME && !e.esp) {
        let last = table.room_from(there.first).max(there.last);
        // A few sectors are not worth a write.
        let grows = last - there.last >= ALIGN;
        let last = if grows { last } else { there.last };
        return Plan::Use {
            entry: Entry {
                last,
                ..there.clone()
            },
            write: grows || !table.sound(),
        };
    }
    if let Some(other) = entries
        .iter()
        .find(|e| e.first <= DATA_START && e.last >= DATA_START)
    {
        return Plan::Refuse(format!(
            "partition {} ({:?}) is where the data partition begins",
            other.number, other.name
        ));
    }
    let entry = Entry {
        number: table.free_number(),
        first: DATA_START,
        last: table.room_from(DATA_START),
        name: DATA_NAME.to_owned(),
        esp: false,
    };
    let room = if entry.last > entry.first {
        entry.sectors()
    } else {
        0
    };
    match content {
        Content::Data(ext) if ext.bytes <= room * SECTOR => Plan::Enter(entry),
        Content::Data(ext) => Plan::Refuse(format!(
            "its data needs {} MiB and there is room for {} MiB",
            ext.bytes >> 20,
            (room * SECTOR) >> 20
        )),
        Content::Other(what) => Plan::Refuse(format!(
            "where the data partition goes there is {what}, which is not touched; scripts/flash --wipe frees the disk"
        )),
        Content::Nothing | Content::HalfMade if room >= LEAST => Plan::Make(entry),
        Content::Nothing | Content::HalfMade => Plan::Refuse(format!(
            "there is room for {} MiB, a data partition has {} MiB at least",
            (room * SECTOR) >> 20,
            (LEAST * SECTOR) >> 20
        )),
    }
}

#[cfg(test)]
mod tests;
