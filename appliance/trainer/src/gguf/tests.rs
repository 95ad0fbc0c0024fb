//! Of reader and writer together.

use proptest::prelude::*;

use super::{Directory, Error, Field, Value, write_file};
use crate::quantised::Kind;

fn file() -> Vec<u8> {
    let keys = [
        ("general.architecture", Field::String("llama".into())),
        ("general.alignment", Field::U32(64)),
        ("x.long", Field::String("y".repeat(5000))),
        ("x.eps", Field::F32(1e-5)),
        ("x.vocabulary", Field::Strings(vec!["a".into(), "b".into()])),
        ("x.sections", Field::I32s(vec![1, -2, 3])),
    ];
    let tensors = [
        ("a.weight", Kind::Q8_0, [64, 3], vec![7; 34 * 6]),
        ("b.weight", Kind::F32, [5, 1], vec![0; 20]),
    ];
    let mut file = Vec::new();
    write_file(&mut file, &keys, &tensors).unwrap();
    file
}

#[test]
fn reads_what_was_written() {
    let file = file();
    let directory = Directory::read(&file).unwrap();
    assert_eq!(directory.string("general.architecture"), Some("llama"));
    assert_eq!(directory.float("x.eps"), Some(f64::from(1e-5_f32)));
    assert_eq!(directory.keys["x.long"], Value::Skipped(5000));
    assert_eq!(directory.keys["x.vocabulary"], Value::Skipped(2));
    let integers = [1, -2, 3].map(Value::Integer).to_vec();
    assert_eq!(directory.keys["x.sections"], Value::Array(integers));
    let a = &directory.tensors["a.weight"];
    assert_eq!((a.kind, a.columns, a.rows), (Kind::Q8_0, 64, 3));
    assert_eq!(a.bytes.start % 64, 0);
    assert!(file[a.bytes.clone()].iter().all(|&byte| byte == 7) && a.bytes.len() == 34 * 6);
    let b = &directory.tensors["b.weight"];
    assert_eq!((b.bytes.start % 64, b.bytes.len()), (0, 20));
}

#[test]
fn version_2_is_read_and_others_are_not() {
    let mut file = file();
    file[4] = 2;
    assert!(Directory::read(&file).is_ok());
    file[4] = 1;
    assert_eq!(Directory::read(&file), Err(Error::Version(1)));
    file[..4].copy_from_slice(b"ELF ");
    assert_eq!(Directory::read(&file), Err(Error::Magic));
    assert_eq!(Directory::read(b"GG"), Err(Error::Magic));
}

#[test]
fn every_truncation_is_an_error() {
    let file = file();
    let end = Directory::read(&file).unwrap().tensors["b.weight"].bytes.end;
    for len in 0..end {
        assert!(Directory::read(&file[..len]).is_err(), "{len} of {end} bytes");
    }
}

#[test]
fn absurd_numbers_are_refused_before_they_are_used() {
    let good = file();
    let with = |at: usize, bytes: &[u8]| {
        let mut file = good.clone();
        file[at..at + bytes.len()].copy_from_slice(bytes);
        Directory::read(&file)
    };
    let huge = u64::MAX.to_le_bytes();
    assert!(matches!(
        with(8, &huge),
        Err(Error::Bound {
            what: "number of tensors",
            ..
        })
    ));
    assert!(matches!(
        with(16, &huge),
        Err(Error::Bound {
            what: "number of keys",
            ..
        })
    ));
    assert!(matches!(
        with(24, &huge),
        Err(Error::Bound {
            what: "length of a key",
            ..
        })
    ));
    // The directory's line of a.weight: name, number of dimensions, two dimensions, type, offset.
    let name = good.windows(8).position(|window| window == b"a.weight").unwrap();
    assert!(matches!(
        with(name + 8, &9u32.to_le_bytes()),
        Err(Error::Tensor { .. })
    ));
    assert!(matches!(with(name + 12, &huge), Err(Error::Bound { .. })));
    assert!(matches!(
        with(name + 12, &33u64.to_le_bytes()),
        Err(Error::Tensor { .. })
    ));
    assert!(matches!(
        with(name + 20, &(1u64 << 31).to_le_bytes()),
        Err(Error::Tensor { .. })
    ));
    assert!(matches!(
        with(name + 28, &99u32.to_le_bytes()),
        Err(Error::TensorType { code: 99, .. })
    ));
    assert!(matches!(
        with(name + 32, &1u64.to_le_bytes()),
        Err(Error::Tensor { .. })
    ));
    assert!(matches!(
        with(name + 32, &(u64::MAX - 63).to_le_bytes()),
        Err(Error::Tensor { .. })
    ));
    assert!(matches!(with(name, b"b"), Err(Error::Twice(_))));
}

proptest! {
    #[test]
    fn any_change_is_an_answer_or_an_error(changes in prop::collection::vec((0usize..700, any::<u8>()), 1..8)) {
        let mut file = file();
        for (at, byte) in changes {
            let at = at % file.len();
            file[at] = byte;
        }
        if let Ok(directory) = Directory::read(&file) {
            for tensor in directory.tensors.values() {
                prop_assert!(tensor.bytes.end <= file.len());
                prop_assert_eq!(tensor.bytes.len(), tensor.rows * tensor.kind.row_bytes(tensor.columns));
            }
        }
    }
}
