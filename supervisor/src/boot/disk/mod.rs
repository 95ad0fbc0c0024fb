//! The disk the machine boots from: found by the name of its boot partition, given a data partition at the first boot
//! and a larger one when the disk became larger. Other disks are read, never written.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::boot::data;

pub mod content;
pub mod device;
pub mod make;
pub mod plan;
pub mod table;

use content::Content;
use device::Disk;
use plan::Plan;
use table::{DATA_NAME, Table};

/// Time disks have to appear.
const PATIENCE: Duration = Duration::from_secs(15);

/// Where the machine's data may be.
#[derive(Debug)]
pub enum Found {
    /// A disk with an image.
    Boot(Box<Boot>),
    /// A file system with the label of a data partition, and no disk with an image: a virtual machine.
    Data(PathBuf),
    /// Neither, and why.
    Nothing(String),
}

/// A disk with an image.
#[derive(Debug)]
pub struct Boot {
    /// The disk.
    pub disk: Disk,
    /// Its table.
    pub table: Table,
    /// What an admin should know about the choice.
    pub note: Option<String>,
}

/// Waits for the boot disk, or for a data disk where nothing says that there is a boot disk.
#[must_use]
pub fn find() -> Found {
    // Firmware of this kind started us from a disk, or from the network.
    let insist = Path::new("/sys/firmware/efi").exists();
    let begun = Instant::now();
    loop {
        let late = begun.elapsed() > PATIENCE;
        let disks = Disk::list(Path::new("/sys/block"), Path::new("/dev"));
        match choose(disks.into_iter().filter_map(carries).collect()) {
            Ok(Some(boot)) => return Found::Boot(Box::new(boot)),
            Err(why) => return Found::Nothing(why),
            Ok(None) => {}
        }
        if !insist || late {
            let labelled = data::find(Path::new("/sys/class/block"), Path::new("/dev"), None);
            if let Some(device) = labelled {
                return Found::Data(device);
            }
        }
        if late {
            return Found::Nothing(format!("no partition is labelled {}", content::LABEL));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// A disk that carries an image, and whether data is on it.
struct Candidate {
    disk: Disk,
    table: Table,
    data: bool,
}

fn carries(disk: Disk) -> Option<Candidate> {
    let table = Table::read(&disk.edges().ok()?)?;
    table.esp()?;
    let entry = table.entries().iter().any(|e| e.name == DATA_NAME);
    let data = entry || matches!(disk.content(), Ok(Content::Data(_)));
    Some(Candidate { disk, table, data })
}

/// Which of several: the one with data. Where that does not decide, disks that stay in the machine go before those
/// that are made to be pulled out; and where none has data, none is written.
fn choose(mut all: Vec<Candidate>) -> Result<Option<Boot>, String> {
    let names = all
        .iter()
        .map(|c| c.disk.name.clone())
        .collect::<Vec<_>>()
        .join(", ");
    let (several, with) = (all.len() > 1, all.iter().filter(|c| c.data).count());
    if several && with == 0 {
        return Err(format!(
            "several disks carry an image and none has data, so that none is written: {names}; unplug all but one"
        ));
    }
    all.sort_by_key(|c| (!c.data, c.disk.removable, c.disk.name.clone()));
    Ok(all.into_iter().next().map(|chosen| Boot {
        note: several.then(|| {
            format!(
                "several disks carry an image: {names}; {} is used",
                chosen.disk.name
            )
        }),
        disk: chosen.disk,
        table: chosen.table,
    }))
}

/// A data partition that can be mounted.
#[derive(Debug)]
pub struct Ready {
    /// Its device.
    pub device: PathBuf,
    /// What was done.
    pub did: String,
    /// What could not be done, and does no harm now.
    pub problem: Option<String>,
}

/// Sees to the data partition of the boot disk. `say` tells what takes long before it is done. The error says why there
/// is none, in a sentence.
pub fn prepare(boot: &Boot, say: &dyn Fn(&str)) -> Result<Ready, String> {
    let Boot { disk, table, .. } = boot;
    let of = |e: String| format!("{}: {e}", disk.path().display());
    let content = disk
        .content()
        .map_err(|e| of(format!("it cannot be read: {e}")))?;
    let (entry, write, did) = match plan::decide(table, &content) {
        Plan::Refuse(why) => return Err(of(why)),
        Plan::Use { entry, write } => {
            let grown = table
                .entries()
                .iter()
                .any(|e| e.number == entry.number && e.last < entry.last);
            let did = match (grown, write) {
                (true, _) => "made larger",
                (false, true) => "there, its table mended",
                (false, false) => "there",
            };
            (entry, write, did)
        }
        Plan::Enter(entry) => (entry, true, "there, entered in the table again"),
        Plan::Make(entry) => {
            let device = disk.know(&entry).map_err(of)?;
            let size = (entry.sectors() * table::SECTOR) >> 20;
            say(&format!(
                "making a data partition of {size} MiB on {}",
                disk.path().display()
            ));
            make::file_system(&device)?;
            (entry, true, "made")
        }
    };
    let mut problem = None;
    if write {
        let mut identity = [0; 16];
        let written = getrandom::fill(&mut identity)
            .map_err(|e| e.to_string())
            .and_then(|()| table.with(&entry, identity))
            .and_then(|edges| {
                disk.write(&edges)
                    .map_err(|e| format!("its table cannot be written: {e}"))
            });
        problem = written.err().map(of);
    }
    // A partition that could not be grown in the table must not grow beyond it.
    let known = match (
        &problem,
        table.entries().into_iter().find(|e| e.number == entry.number),
    ) {
        (Some(_), Some(as_it_was)) => disk.know(&as_it_was),
        _ => disk.know(&entry),
    };
    Ok(Ready {
        device: known.map_err(of)?,
        did: did.to_owned(),
        problem,
    })
}

#[cfg(test)]
mod tests {
    use super::device::tests::world;
    use super::table::tests::{ESP, flashed, partitioned};
    use super::*;

    const SIZE: u64 = 2 << 30;

    fn candidates(disks: &[(&str, bool, bool)]) -> Vec<Candidate> {
        let with: Vec<_> = disks
            .iter()
            .map(|(name, _, removable)| (*name, SIZE, 512, *removable))
            .collect();
        let (_dir, list) = world(&with);
        let data = |name: &str| disks.iter().any(|(n, data, _)| *n == name && *data);
        list.into_iter()
            .map(|disk| Candidate {
                data: data(&disk.name),
                table: Table::read(&flashed(SIZE / table::SECTOR)).unwrap(),
                disk,
            })
            .collect()
    }

    #[test]
    fn of_several_disks_the_one_with_data_is_used_and_without_any_none_is_written() {
        let name = |disks: &[(&str, bool, bool)]| {
            choose(candidates(disks)).map(|boot| boot.map(|boot| (boot.disk.name, boot.note.is_some())))
        };
        assert_eq!(name(&[]), Ok(None));
        assert_eq!(name(&[("sda", false, true)]), Ok(Some(("sda".into(), false))));
        assert_eq!(
            name(&[("sda", false, false), ("sdb", true, true)]),
            Ok(Some(("sdb".into(), true)))
        );
        assert_eq!(
            name(&[("sda", true, true), ("sdb", true, false)]),
            Ok(Some(("sdb".into(), true)))
        );
        assert!(
            name(&[("sda", false, false), ("sdb", false, true)])
                .unwrap_err()
                .contains("sda, sdb")
        );
    }

    #[test]
    fn only_a_disk_whose_table_names_our_boot_partition_is_ours() {
        let (_dir, list) = world(&[
            ("sda", SIZE, 512, false),
            ("sdb", SIZE, 512, false),
            ("sdc", SIZE, 512, false),
        ]);
        list[0].write(&flashed(SIZE / table::SECTOR)).unwrap();
        list[1]
            .write(&partitioned(
                SIZE / table::SECTOR,
                &[("EFI", ESP.1, ESP.2), (DATA_NAME, 1 << 20, 1 << 21)],
            ))
            .unwrap();
        let ours: Vec<String> = list
            .into_iter()
            .filter_map(carries)
            .map(|c| c.disk.name)
            .collect();
        assert_eq!(ours, ["sda"]);
    }
}
