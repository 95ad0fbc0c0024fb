use super::*;
use proptest::prelude::*;

/// Sectors of an image: its second table ends where the data begins.
pub const IMAGE: u64 = DATA_START;

/// The ends of a blank disk.
pub fn blank(sectors: u64) -> Edges {
    let [head, tail] = Edges::places(sectors).unwrap().map(|(_, length)| vec![0; length]);
    Edges::new(sectors, head, tail).unwrap()
}

/// A table with these partitions: name, first, last.
pub fn partitioned(sectors: u64, parts: &[(&str, u64, u64)]) -> Edges {
    let mut disk = GptConfig::new()
        .writable(true)
        .create_from_device(blank(sectors), Some(uuid::Uuid::from_u128(7)))
        .unwrap();
    let parts = (1..).zip(parts).map(|(number, (name, first, last))| {
        let esp = *name == ESP_NAME;
        let part = Partition {
            part_type_guid: if esp {
                partition_types::EFI
            } else {
                partition_types::LINUX_FS
            },
            part_guid: uuid::Uuid::from_u128(u128::from(number)),
            first_lba: *first,
            last_lba: *last,
            flags: 0,
            name: (*name).to_owned(),
        };
        (number, part)
    });
    disk.update_partitions(parts.collect()).unwrap();
    let mut made = disk.write().unwrap();
    let whole = u32::try_from(sectors - 1).unwrap_or(u32::MAX);
    gpt::mbr::ProtectiveMBR::with_lb_size(whole)
        .update_conservative(&mut made)
        .unwrap();
    made.at = 0;
    made
}

pub const ESP: (&str, u64, u64) = (ESP_NAME, 2048, DATA_START - 2049);

/// A disk of so many sectors with an image written to its beginning: the second table is not at its end.
pub fn flashed(sectors: u64) -> Edges {
    let image = partitioned(IMAGE, &[ESP]);
    Edges {
        sectors,
        head: image.head,
        tail: blank(sectors).tail,
        at: 0,
    }
}

fn data(last: u64) -> Entry {
    Entry {
        number: 2,
        first: DATA_START,
        last,
        name: DATA_NAME.to_owned(),
        esp: false,
    }
}

#[test]
fn an_image_on_a_larger_disk_is_ours_and_gets_its_second_copy_moved_to_the_end() {
    let edges = flashed(16 << 20);
    let table = Table::read(&edges).unwrap();
    assert!(table.esp().is_some() && !table.sound());
    let last = table.room_from(DATA_START);
    assert!(last < (16 << 20) - TAIL && (last + 1).is_multiple_of(ALIGN));
    let made = table.with(&data(last), [9; 16]).unwrap();
    let again = Table::read(&made).unwrap();
    assert!(again.sound());
    assert_eq!(again.entries().len(), 2);
    assert_eq!(again.entries()[1], data(last));
    // The protective entry covers the whole disk.
    assert_eq!(made.head[450], 0xee);
    assert_eq!(made.head[458..462], ((16u32 << 20) - 1).to_le_bytes());
    // Another disk's table is not the same: the boot partition's identity and the disk's own stay.
    assert_eq!(again.disk.guid(), table.disk.guid());
    assert_eq!(again.disk.partitions()[&1], table.disk.partitions()[&1]);
}

#[test]
fn what_sfdisk_writes_is_read_and_what_is_written_sfdisk_accepts() {
    let Ok(path) = which("sfdisk") else {
        panic!("sfdisk is missing (package fdisk)");
    };
    let dir = tempfile::tempdir().unwrap();
    let disk = dir.path().join("disk.img");
    let file = std::fs::File::options()
        .create(true)
        .truncate(true)
        .read(true)
        .write(true)
        .open(&disk)
        .unwrap();
    file.set_len(1 << 30).unwrap();
    let script = format!(
        "label: gpt\nfirst-lba: 34\nstart=2048, size={}, type=uefi, name={ESP_NAME}\n",
        DATA_START - 4096
    );
    run(std::process::Command::new(&path).arg("-q").arg(&disk), &script);
    let sectors = (1u64 << 30) / SECTOR;
    let read = |file: &std::fs::File| {
        use std::os::unix::fs::FileExt;
        let [head, tail] = Edges::places(sectors).unwrap().map(|(at, length)| {
            let mut bytes = vec![0; length];
            file.read_exact_at(&mut bytes, at).unwrap();
            bytes
        });
        Edges::new(sectors, head, tail).unwrap()
    };
    let table = Table::read(&read(&file)).unwrap();
    assert!(table.sound() && table.esp().is_some());
    let made = table.with(&data(table.room_from(DATA_START)), [1; 16]).unwrap();
    for ((at, _), bytes) in Edges::places(sectors).unwrap().into_iter().zip(made.ends()) {
        use std::os::unix::fs::FileExt;
        file.write_all_at(bytes, at).unwrap();
    }
    let said = run(std::process::Command::new(&path).arg("--verify").arg(&disk), "");
    assert!(said.contains("No errors"), "{said}");
    let said = run(std::process::Command::new(&path).arg("--dump").arg(&disk), "");
    assert!(
        said.contains(DATA_NAME) && said.contains("start=     1048576"),
        "{said}"
    );
}

fn which(name: &str) -> Result<std::path::PathBuf, ()> {
    ["/usr/sbin", "/sbin", "/usr/bin"]
        .iter()
        .map(|dir| std::path::Path::new(dir).join(name))
        .find(|path| path.exists())
        .ok_or(())
}

fn run(command: &mut std::process::Command, input: &str) -> String {
    use std::io::Write as _;
    let mut child = command
        .env("LC_ALL", "C")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    said
}

#[test]
fn either_copy_alone_is_enough_and_torn_entries_are_not_believed() {
    let whole = partitioned(4 << 20, &[ESP, (DATA_NAME, DATA_START, DATA_START + 4095)]);
    let entries = Table::read(&whole).unwrap().entries();
    for (part, at) in [(0, 512), (0, 1024 + 40), (1, 0), (1, 32 * 512)] {
        let mut torn = whole.clone();
        let bytes = if part == 0 { &mut torn.head } else { &mut torn.tail };
        bytes[at] ^= 0xff;
        let table = Table::read(&torn).unwrap();
        assert!(!table.sound(), "{part} {at}");
        assert_eq!(table.entries(), entries);
        // Writing it once more mends it.
        let mended = table.with(&entries[1], [0; 16]).unwrap();
        assert!(Table::read(&mended).unwrap().sound());
    }
    let mut none = whole.clone();
    none.head[600] ^= 1;
    none.tail[100] ^= 1;
    none.head[1100] ^= 1;
    assert!(Table::read(&none).is_none());
}

/// A power cut at any byte of the two writes: what is on the disk then can be read and is the table before or the one
/// after.
#[test]
fn a_cut_at_any_byte_of_the_writes_leaves_a_table() {
    for before in [
        flashed(4 << 20),
        partitioned(4 << 20, &[ESP, (DATA_NAME, DATA_START, DATA_START + 4095)]),
    ] {
        let table = Table::read(&before).unwrap();
        let after = table.with(&data(table.room_from(DATA_START)), [3; 16]).unwrap();
        let wanted = Table::read(&after).unwrap().entries();
        let mut now = before.clone();
        // In the order of the writes: the end of the disk, then its beginning; bytes at random within each.
        for n in (0..now.tail.len()).step_by(61).chain([now.tail.len()]) {
            now.tail[..n].copy_from_slice(&after.tail[..n]);
            let seen = Table::read(&now).unwrap().entries();
            assert!(seen == table.entries() || seen == wanted, "{n} bytes of the end");
        }
        now.tail.copy_from_slice(&after.tail);
        for n in (0..now.head.len()).step_by(7).chain([now.head.len()]) {
            now.head[..n].copy_from_slice(&after.head[..n]);
            let seen = Table::read(&now).unwrap().entries();
            assert!(
                seen == table.entries() || seen == wanted,
                "{n} bytes of the beginning"
            );
        }
        assert_eq!(now, after);
    }
}

#[test]
fn partitions_that_overlap_or_leave_the_disk_make_no_table() {
    for parts in [
        &[ESP, ("a", 4096, 8191)][..],
        &[("a", 4 << 20, (4 << 20) + 5)],
        &[("a", 20, 4096)],
        &[("a", 9000, 8999)],
    ] {
        assert!(Table::read(&partitioned(4 << 20, parts)).is_none(), "{parts:?}");
    }
    assert!(Table::read(&blank(4 << 20)).is_none());
    assert!(Edges::places(60).is_none() && Edges::places(u64::MAX).is_none());
}

#[test]
fn other_partitions_keep_their_numbers_or_nothing_is_written() {
    let edges = partitioned(4 << 20, &[ESP, ("mine", DATA_START + 4096, DATA_START + 8191)]);
    let table = Table::read(&edges).unwrap();
    assert_eq!(table.free_number(), 3);
    assert_eq!(table.room_from(DATA_START), DATA_START + 4095);
    let entry = Entry {
        number: 3,
        ..data(DATA_START + 4095)
    };
    let made = Table::read(&table.with(&entry, [1; 16]).unwrap()).unwrap();
    assert_eq!(made.entries()[1], table.entries()[1]);
    let far = Entry { number: 5, ..entry };
    assert!(table.with(&far, [1; 16]).unwrap_err().contains("gaps"));
}

proptest! {
    #[test]
    fn arbitrary_ends_never_panic_nor_ask_for_much(
        seed in proptest::collection::vec(any::<u8>(), 64),
        at in proptest::collection::vec((0usize..17000, any::<u8>()), 0..20),
        sign in any::<bool>(),
    ) {
        let mut edges = partitioned(4 << 20, &[ESP]);
        for (at, byte) in at {
            edges.head[at] = byte;
            if at < edges.tail.len() { edges.tail[at] = byte; }
        }
        if sign {
            // A header that is whole but asks for anything: its sum is set right.
            edges.head[512 + 40..512 + 40 + 48].copy_from_slice(&seed[..48]);
            let mut header = edges.head[512..604].to_vec();
            header[16..20].fill(0);
            let sum = crc32(&header);
            edges.head[528..532].copy_from_slice(&sum.to_le_bytes());
        }
        if let Some(table) = Table::read(&edges) {
            let _ = table.with(&data(table.room_from(DATA_START).max(DATA_START)), [0; 16]);
        }
    }
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 }
        })
    })
}
