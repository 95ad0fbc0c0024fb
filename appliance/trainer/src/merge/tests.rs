//! Made-up bases with made-up adapters, merged.

use std::io::{Seek as _, Write as _};
use std::sync::Arc;

use super::*;
use crate::learner::{Learner as _, Sequence};
use crate::made_up::Shape;
use crate::model::{Architecture, Base, LoraConfig, LoraModel, write_adapter};
use crate::quantised::Kind;
use crate::random::Random;

fn file(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file.rewind().unwrap();
    file
}

fn shape(kinds: Vec<Kind>) -> Shape {
    Shape {
        embedding: 512,
        feed_forward: 768,
        kinds,
        ..Shape::tiny(Architecture::Llama)
    }
}

fn base(shape: &Shape) -> Vec<u8> {
    let mut bytes = Vec::new();
    shape.write(&mut bytes).unwrap();
    bytes
}

fn model(base: &[u8]) -> LoraModel {
    LoraModel::new(
        &Arc::new(Base::map(&file(base)).unwrap()),
        LoraConfig::default(),
        2,
    )
    .unwrap()
}

/// The numbers of an adapter: A as it begins, B of this deviation.
fn parameters(model: &LoraModel, strength: f32) -> Vec<f32> {
    let mut random = Random::new(3);
    let initial = model.initial(5);
    initial
        .into_iter()
        .map(|value| {
            if value == 0.0 {
                strength * random.normals(1, 1.0)[0]
            } else {
                value
            }
        })
        .collect()
}

fn adapter(model: &LoraModel, parameters: &[f32]) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_adapter(model, parameters, &mut bytes).unwrap();
    bytes
}

fn merged_with(base: &[u8], adapter: &[u8], threads: usize) -> Result<(Vec<u8>, Merged), Error> {
    let order = Order {
        base: &file(base),
        base_digest: "b",
        adapter,
        adapter_digest: "a",
        threads,
    };
    let mut bytes = Vec::new();
    let mut seen = (0, 0);
    let merged = merge(order, &mut bytes, &mut |written, all| {
        seen = (written, all);
        ControlFlow::Continue(())
    })?;
    assert_eq!(seen, (bytes.len() as u64, bytes.len() as u64));
    Ok((bytes, merged))
}

fn nll(model: &mut LoraModel, parameters: &[f32]) -> f64 {
    let mut random = Random::new(11);
    let sequence = Sequence {
        tokens: (0..200).map(|_| random.below(257)).collect(),
        positions: (0..200).collect(),
        segments: vec![0; 200],
        targets: (0..200).map(|at| at > 0).collect(),
    };
    let loss = model.loss(parameters, &sequence).unwrap();
    loss.nll / loss.tokens as f64
}

#[test]
fn an_adapter_that_adds_nothing_leaves_every_weight_as_it_was() {
    let base = base(&shape(Kind::ALL.to_vec()));
    let model = model(&base);
    let (merged, figures) = merged_with(&base, &adapter(&model, &model.initial(1)), 2).unwrap();
    assert_eq!((figures.tensors, figures.lost), (14, 0.0));
    let [old, new] = [&base, &merged].map(|bytes| Directory::read(bytes).unwrap());
    assert_eq!(base[old.layout.data..], merged[new.layout.data..]);
    assert_eq!(
        base[old.layout.directory.clone()],
        merged[new.layout.directory.clone()]
    );
    for (key, value) in &old.keys {
        let expected = match key.as_str() {
            "general.name" => &Value::String("made up (merged)".into()),
            _ => value,
        };
        assert_eq!(&new.keys[key], expected);
    }
    assert_eq!(new.keys.len(), old.keys.len() + 2);
    assert_eq!(new.string("sarai.merged.base"), Some("b"));
    assert_eq!(new.string("sarai.merged.adapter"), Some("a"));
    // Merged once more, it says so once.
    let (again, _) = merged_with(&merged, &adapter(&model, &model.initial(1)), 1).unwrap();
    assert_eq!(again, merged);
}

#[test]
fn what_is_merged_computes_what_base_and_adapter_do() {
    for kind in Kind::ALL {
        for strength in [0.03, 0.3, 3.0] {
            let base = base(&shape(vec![kind]));
            let mut model = model(&base);
            let parameters = parameters(&model, strength);
            let before = nll(&mut model, &vec![0.0; parameters.len()]);
            let wanted = nll(&mut model, &parameters);
            let (bytes, figures) = merged_with(&base, &adapter(&model, &parameters), 2).unwrap();
            assert_eq!(bytes.len() - Directory::read(&bytes).unwrap().layout.data, {
                base.len() - Directory::read(&base).unwrap().layout.data
            });
            let mut merged = self::model(&bytes);
            let found = nll(&mut merged, &vec![0.0; parameters.len()]);
            // Of weights without a pattern, rounding changes the loss as much as it is coarse: half of this is seen.
            let within = match kind {
                Kind::F32 => 1e-4,
                Kind::F16 | Kind::Bf16 => 5e-3,
                Kind::Q8_0 | Kind::Q6K => 0.04,
                Kind::Q5_0 | Kind::Q5_1 | Kind::Q5K => 0.16,
                _ => 0.25,
            };
            assert!(
                (found - wanted).abs() < within,
                "{kind:?} {strength}: {before} -> {wanted}, merged {found}"
            );
            // Along the adapter's directions, nearly all of the update is there, far below a step as above it.
            assert!(figures.lost < 0.03, "{kind:?} {strength}: {}", figures.lost);
        }
    }
}

#[test]
fn whoever_watches_ends_it_after_any_part() {
    let base = base(&shape(vec![Kind::Q8_0]));
    let model = model(&base);
    let order = Order {
        base: &file(&base),
        base_digest: "b",
        adapter: &adapter(&model, &parameters(&model, 0.3)),
        adapter_digest: "a",
        threads: 1,
    };
    let merge_until = |most: usize| {
        let (mut bytes, mut parts) = (Vec::new(), 0);
        let end = merge(order, &mut bytes, &mut |_, _| {
            parts += 1;
            if parts > most {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
        (end, parts)
    };
    let (whole, parts) = merge_until(usize::MAX);
    whole.unwrap();
    assert!(parts > 14, "{parts}");
    for most in 0..parts {
        let (end, said) = merge_until(most);
        assert!(matches!(end, Err(Error::Stopped)), "{end:?}");
        assert_eq!(said, most + 1);
    }
}

#[test]
fn threads_change_nothing() {
    let base = base(&shape(Kind::ALL.to_vec()));
    let model = model(&base);
    let adapter = adapter(&model, &parameters(&model, 0.3));
    let (one, figures) = merged_with(&base, &adapter, 1).unwrap();
    for threads in [2, 3] {
        assert_eq!(
            merged_with(&base, &adapter, threads).unwrap(),
            (one.clone(), figures)
        );
    }
    assert_ne!(one[one.len() - 1000..], base[base.len() - 1000..]);
}

#[test]
fn what_does_not_fit_is_refused_with_the_reason() {
    let whole = base(&shape(vec![Kind::Q8_0]));
    let adapter_of = |shape: Shape| {
        let model = model(&base(&shape));
        adapter(&model, &parameters(&model, 0.3))
    };
    let good = adapter_of(shape(vec![Kind::Q8_0]));
    merged_with(&whole, &good, 1).unwrap();
    let refused = |base: &[u8], adapter: &[u8]| merged_with(base, adapter, 1).unwrap_err().to_string();
    let qwen = adapter_of(Shape::tiny(Architecture::Qwen2));
    assert!(refused(&whole, &qwen).contains("for a \"qwen2\", the base is a \"llama\""));
    let wide = adapter_of(Shape {
        feed_forward: 1024,
        ..shape(vec![Kind::Q8_0])
    });
    assert!(refused(&whole, &wide).contains("is of 512 rows of 1024, the base has 512 of 768"));
    let deep = adapter_of(Shape {
        layers: 3,
        ..shape(vec![Kind::Q8_0])
    });
    assert!(refused(&whole, &deep).contains("which the base does not have"));
    assert!(refused(&whole[..whole.len() / 2], &good).contains("use the base model: "));
    assert!(refused(&whole, &good[..good.len() / 2]).contains("use the adapter: "));
    assert!(refused(&good, &good).contains("which the base does not have"));
    // A scale that is no number.
    let mut broken = whole.clone();
    let directory = Directory::read(&whole).unwrap();
    let at = directory.tensors["blk.0.attn_q.weight"].bytes.start;
    broken[at..at + 2].copy_from_slice(&0x7e00u16.to_le_bytes());
    assert!(refused(&broken, &good).contains("not finite"));
}
