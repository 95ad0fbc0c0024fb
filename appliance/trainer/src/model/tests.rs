//! The whole model, on made-up weights.

use std::io::{Seek, Write};
use std::sync::Arc;

use proptest::prelude::*;
use sarai_wire::training::Target;

use super::*;
use crate::Error;
use crate::difference::assert_derivative;
use crate::gguf::{Directory, Value};
use crate::learner::{Learner, Sequence};
use crate::made_up::Shape;
use crate::quantised::Kind;
use crate::random::Random;

fn mapped(bytes: &[u8]) -> Result<Arc<Base>, Error> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file.rewind().unwrap();
    Base::map(&file).map(Arc::new)
}

fn bytes(shape: &Shape) -> Vec<u8> {
    let mut bytes = Vec::new();
    shape.write(&mut bytes).unwrap();
    bytes
}

fn config() -> LoraConfig {
    LoraConfig {
        rank: 3,
        alpha: 6.0,
        ..LoraConfig::default()
    }
}

/// Segments of these lengths; about every second token is a target.
fn sequence(lengths: &[usize], vocabulary: u32, seed: u64) -> Sequence {
    let mut random = Random::new(seed);
    let mut sequence = Sequence::default();
    for (segment, &length) in (0u32..).zip(lengths) {
        for position in 0..u32::try_from(length).unwrap() {
            sequence.tokens.push(random.below(vocabulary));
            sequence.positions.push(position);
            sequence.segments.push(segment);
            sequence.targets.push(position > 0 && random.below(2) == 0);
        }
    }
    sequence
}

/// Parameters none of which is zero.
fn parameters(model: &LoraModel) -> Vec<f32> {
    let mut random = Random::new(20);
    model
        .initial(1)
        .into_iter()
        .map(|value| value + random.normals(1, 0.2)[0])
        .collect()
}

#[test]
fn derivatives_of_every_layer_and_matrix() {
    for architecture in Architecture::ALL {
        let base = mapped(&bytes(&Shape::tiny(architecture))).unwrap();
        let mut model = LoraModel::new(&base, config(), 1).unwrap();
        let parameters = parameters(&model);
        let sequence = sequence(&[9, 4, 1, 7], 257, 3);
        let mut gradient = vec![0.0; parameters.len()];
        let loss = model
            .loss_and_gradient(&parameters, &sequence, &mut gradient)
            .unwrap();
        assert_eq!(loss, model.loss(&parameters, &sequence).unwrap());
        assert_eq!(
            loss.tokens,
            sequence.targets.iter().filter(|target| **target).count()
        );
        let slots = model.slots.clone();
        assert_eq!(slots.len(), 14);
        let model = std::cell::RefCell::new(model);
        for slot in slots {
            for (name, range) in [("A", slot.a.clone()), ("B", slot.b.clone())] {
                let what = format!("{architecture:?} {} {:?} {name}", slot.layer, slot.target);
                assert_derivative(
                    &what,
                    &parameters[range.clone()],
                    &gradient[range.clone()],
                    |part| {
                        let mut parameters = parameters.clone();
                        parameters[range.clone()].copy_from_slice(part);
                        model.borrow_mut().loss(&parameters, &sequence).unwrap().nll
                    },
                );
            }
        }
    }
}

#[test]
fn what_is_far_from_the_base_is_drawn_back_and_the_base_itself_is_not() {
    for architecture in Architecture::ALL {
        let base = mapped(&bytes(&Shape::tiny(architecture))).unwrap();
        let mut model = LoraModel::new(&base, config(), 2).unwrap();
        let sequence = sequence(&[9, 4, 1, 7], 257, 3);
        let anchor = model.anchor(&sequence).unwrap();
        let targets = sequence.targets.iter().filter(|target| **target).count();
        assert_eq!(anchor.tokens, targets);
        let untouched = model.initial(1);
        let mut gradient = vec![0.0; untouched.len()];
        let none = model
            .drift_and_gradient(&untouched, &sequence, &anchor, 1.0, &mut gradient)
            .unwrap();
        assert!(none.abs() < 1e-4, "{none}");
        let pull = |gradient: &[f32]| gradient.iter().map(|g| g * g).sum::<f32>().sqrt();
        let still = pull(&gradient);
        let parameters = parameters(&model);
        gradient.fill(0.0);
        let far = model
            .drift_and_gradient(&parameters, &sequence, &anchor, 0.5, &mut gradient)
            .unwrap();
        assert!(far > 0.01, "{far}");
        assert!(still < 1e-3 * pull(&gradient), "{still} {}", pull(&gradient));
        let model = std::cell::RefCell::new(model);
        assert_derivative("drift", &parameters, &gradient, |parameters| {
            let mut unused = vec![0.0; parameters.len()];
            let drift =
                model
                    .borrow_mut()
                    .drift_and_gradient(parameters, &sequence, &anchor, 0.5, &mut unused);
            0.5 * drift.unwrap()
        });
        let short = crate::learner::Anchor {
            values: anchor.values[1..].to_vec(),
            ..anchor
        };
        let refused =
            model
                .borrow_mut()
                .drift_and_gradient(&parameters, &sequence, &short, 1.0, &mut gradient);
        assert!(refused.is_err());
    }
}

#[test]
fn gradients_are_added_and_are_the_same_for_any_number_of_threads() {
    let kinds = Kind::ALL.to_vec();
    let shape = Shape {
        embedding: 256,
        feed_forward: 512,
        kinds,
        ..Shape::tiny(Architecture::Qwen2)
    };
    let base = mapped(&bytes(&shape)).unwrap();
    let sequence = sequence(&[100, 30], 257, 4);
    let mut seen = None;
    for threads in [1, 2, 3] {
        let mut model = LoraModel::new(&base, config(), threads).unwrap();
        let parameters = parameters(&model);
        let mut gradient = vec![0.0; parameters.len()];
        let loss = model
            .loss_and_gradient(&parameters, &sequence, &mut gradient)
            .unwrap();
        let (first, again) = (
            gradient.clone(),
            model.loss_and_gradient(&parameters, &sequence, &mut gradient),
        );
        assert_eq!(again.unwrap(), loss);
        for (first, twice) in first.iter().zip(&gradient) {
            assert!(
                (2.0 * first - twice).abs() <= 1e-4 * (1.0 + first.abs()),
                "{first} {twice}"
            );
        }
        assert!(loss.nll.is_finite());
        assert_eq!(
            seen.get_or_insert((loss, first.clone())),
            &(loss, first),
            "{threads} threads"
        );
    }
}

#[test]
fn what_is_kept_of_the_forward_pass_changes_not_a_bit() {
    let shape = Shape {
        layers: 3,
        ..Shape::tiny(Architecture::Llama)
    };
    let base = mapped(&bytes(&shape)).unwrap();
    let of_layer = 4 * super::layer::Kept::size(&base.shape) * 60;
    let mut seen = None;
    for budget in [0, of_layer, 2 * of_layer, 1 << 30] {
        let mut model = LoraModel::new(&base, config(), 2).unwrap();
        model.budget = budget;
        let parameters = parameters(&model);
        let mut gradient = vec![0.0; parameters.len()];
        let mut nll = Vec::new();
        // Shorter and longer ones, and some without a way back, in the same memory.
        for (number, length) in [(1, 20), (2, 60), (3, 35), (4, 60)] {
            let sequence = sequence(&[length], 257, number);
            nll.push(
                model
                    .loss_and_gradient(&parameters, &sequence, &mut gradient)
                    .unwrap(),
            );
            nll.push(model.loss(&parameters, &sequence).unwrap());
        }
        assert!(nll.chunks(2).all(|pair| pair[0] == pair[1]));
        let found = (nll, gradient);
        assert_eq!(seen.get_or_insert_with(|| found.clone()), &found, "{budget}");
    }
}

#[test]
fn packed_segments_are_as_if_alone() {
    for architecture in Architecture::ALL {
        let base = mapped(&bytes(&Shape::tiny(architecture))).unwrap();
        let mut model = LoraModel::new(&base, config(), 1).unwrap();
        let parameters = parameters(&model);
        let packed = sequence(&[12, 5, 80], 257, 5);
        let mut gradient = vec![0.0; parameters.len()];
        let together = model
            .loss_and_gradient(&parameters, &packed, &mut gradient)
            .unwrap();
        let (mut nll, mut tokens) = (0.0, 0);
        let mut sum = vec![0.0; parameters.len()];
        for range in [0..12, 12..17, 17..97] {
            let alone = Sequence {
                tokens: packed.tokens[range.clone()].to_vec(),
                positions: packed.positions[range.clone()].to_vec(),
                segments: packed.segments[range.clone()].to_vec(),
                targets: packed.targets[range].to_vec(),
            };
            let loss = model.loss_and_gradient(&parameters, &alone, &mut sum).unwrap();
            nll += loss.nll;
            tokens += loss.tokens;
        }
        assert_eq!(tokens, together.tokens);
        assert!((nll / together.nll - 1.0).abs() < 1e-6, "{nll} {}", together.nll);
        let largest = sum.iter().fold(0.0f32, |max, value| max.max(value.abs()));
        for (alone, together) in sum.iter().zip(&gradient) {
            assert!((alone - together).abs() < 1e-4 * largest, "{alone} {together}");
        }
    }
}

#[test]
fn an_update_of_zero_changes_nothing_and_steps_downhill_do() {
    let base = mapped(&bytes(&Shape::tiny(Architecture::Llama))).unwrap();
    let sequence = sequence(&[40], 257, 6);
    let mut model = LoraModel::new(&base, config(), 2).unwrap();
    let mut parameters = model.initial(7);
    assert_eq!(parameters, model.initial(7));
    assert_ne!(parameters, model.initial(8));
    let start = model.loss(&parameters, &sequence).unwrap();
    let zeros = vec![0.0; parameters.len()];
    assert_eq!(model.loss(&zeros, &sequence).unwrap(), start);
    for _ in 0..40 {
        let mut gradient = zeros.clone();
        model
            .loss_and_gradient(&parameters, &sequence, &mut gradient)
            .unwrap();
        parameters
            .iter_mut()
            .zip(&gradient)
            .for_each(|(value, gradient)| *value -= 0.01 * gradient);
    }
    let end = model.loss(&parameters, &sequence).unwrap();
    assert!(end.nll < 0.5 * start.nll, "{} {}", start.nll, end.nll);
}

#[test]
fn parameters_that_have_run_away_are_seen() {
    let base = mapped(&bytes(&Shape::tiny(Architecture::Qwen2))).unwrap();
    let mut model = LoraModel::new(&base, config(), 1).unwrap();
    for value in [f32::NAN, f32::INFINITY] {
        let mut parameters = parameters(&model);
        parameters[5] = value;
        let loss = model.loss(&parameters, &sequence(&[20], 257, 7)).unwrap();
        assert!(!loss.nll.is_finite());
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let base = mapped(&bytes(&Shape::tiny(Architecture::Llama))).unwrap();
    let mut model = LoraModel::new(&base, config(), 1).unwrap();
    let parameters = model.initial(0);
    let good = sequence(&[5, 5], 257, 8);
    let mut refused = |change: fn(&mut Sequence)| {
        let mut bad = good.clone();
        change(&mut bad);
        let error = model.loss(&parameters, &bad).unwrap_err();
        assert!(matches!(error, Error::Input(_)), "{error}");
        error.to_string()
    };
    assert!(refused(|s| s.tokens[3] = 257).contains("beyond the vocabulary"));
    assert!(refused(|s| s.targets[5] = true).contains("first of its segment"));
    assert!(refused(|s| s.positions[7] = 4).contains("position"));
    assert!(refused(|s| s.segments[7] = 3).contains("position"));
    assert!(refused(|s| s.targets.truncate(3)).contains("length"));
    assert!(model.loss(&parameters[1..], &good).is_err());
    assert!(model.loss_and_gradient(&parameters, &good, &mut [0.0]).is_err());
    assert_eq!(model.loss(&parameters, &Sequence::default()).unwrap().tokens, 0);
    for bad in [
        LoraConfig { rank: 0, ..config() },
        LoraConfig {
            alpha: f32::NAN,
            ..config()
        },
        LoraConfig {
            targets: vec![],
            ..config()
        },
    ] {
        assert!(matches!(LoraModel::new(&base, bad, 1), Err(Error::Adapter(_))));
    }
}

#[test]
fn adapters_have_the_shapes_that_llama_cpp_expects() {
    let base = mapped(&bytes(&Shape::tiny(Architecture::Qwen2Vl))).unwrap();
    let targets = vec![Target::FfnDown, Target::AttnK];
    let model = LoraModel::new(
        &base,
        LoraConfig {
            rank: 1,
            targets,
            ..config()
        },
        1,
    )
    .unwrap();
    let parameters = parameters(&model);
    let mut file = Vec::new();
    write_adapter(&model, &parameters, &mut file).unwrap();
    let directory = Directory::read(&file).unwrap();
    assert_eq!(directory.string("general.type"), Some("adapter"));
    assert_eq!(directory.string("general.architecture"), Some("qwen2vl"));
    assert_eq!(directory.string("adapter.type"), Some("lora"));
    assert_eq!(directory.keys["adapter.lora.alpha"], Value::Float(6.0));
    assert_eq!(directory.tensors.len(), 8);
    for slot in &model.slots {
        let (inputs, outputs) = if slot.target == Target::AttnK {
            (32, 16)
        } else {
            (64, 32)
        };
        for (suffix, shape, range) in [
            ("lora_a", (inputs, 1), slot.a.clone()),
            ("lora_b", (1, outputs), slot.b.clone()),
        ] {
            let name = format!("blk.{}.{}.weight.{suffix}", slot.layer, slot.target.name());
            let tensor = &directory.tensors[&name];
            assert_eq!((tensor.columns, tensor.rows), shape, "{name}");
            let mut values = vec![0.0; range.len()];
            tensor.kind.dequantise(&file[tensor.bytes.clone()], &mut values);
            assert_eq!(values, parameters[range]);
        }
    }
    assert!(write_adapter(&model, &vec![f32::NAN; parameters.len()], &mut Vec::new()).is_err());
}

#[test]
fn an_adapter_is_read_as_it_was_written_and_no_other_is() {
    let written = |architecture, config: LoraConfig| {
        let base = mapped(&bytes(&Shape::tiny(architecture))).unwrap();
        let model = LoraModel::new(&base, config, 1).unwrap();
        let (mut file, parameters) = (Vec::new(), parameters(&model));
        write_adapter(&model, &parameters, &mut file).unwrap();
        (model, parameters, file)
    };
    let (model, parameters, file) = written(Architecture::Llama, config());
    assert_eq!(read_adapter(&model, &file).unwrap(), parameters);
    let others = [
        ("for a \"qwen2\"", Architecture::Qwen2, config()),
        (
            "has rank 2, not 3",
            Architecture::Llama,
            LoraConfig { rank: 2, ..config() },
        ),
        (
            "alpha is 5, not 6",
            Architecture::Llama,
            LoraConfig {
                alpha: 5.0,
                ..config()
            },
        ),
        (
            "does not update \"blk.0.attn_k",
            Architecture::Llama,
            LoraConfig {
                targets: vec![Target::AttnQ],
                ..config()
            },
        ),
    ];
    for (why, architecture, config) in others {
        let (_, _, other) = written(architecture, config);
        let error = read_adapter(&model, &other).unwrap_err().to_string();
        assert!(error.contains(why), "{why}: {error}");
    }
    let fewer = LoraConfig {
        targets: vec![Target::AttnQ],
        ..config()
    };
    let (fewer, _, _) = written(Architecture::Llama, fewer);
    let error = read_adapter(&fewer, &file).unwrap_err().to_string();
    assert!(error.contains("which is not to be updated"), "{error}");
    let wide = Shape {
        feed_forward: 96,
        ..Shape::tiny(Architecture::Llama)
    };
    let wide = LoraModel::new(&mapped(&bytes(&wide)).unwrap(), config(), 1).unwrap();
    let error = read_adapter(&wide, &file).unwrap_err().to_string();
    assert!(error.contains("is of 64 rows of 32, not 96 of 32"), "{error}");
    // The last tensor ends with the file, or with padding.
    for length in (0..file.len() - 32).step_by(97) {
        assert!(matches!(
            read_adapter(&model, &file[..length]),
            Err(Error::AdapterFile(_))
        ));
    }
}

#[test]
fn other_models_are_refused_with_a_reason() {
    let good = bytes(&Shape::tiny(Architecture::Llama));
    let replaced = |from: &str, to: &str| {
        assert_eq!(from.len(), to.len());
        let mut file = good.clone();
        let at: Vec<usize> = (0..file.len())
            .filter(|&at| file[at..].starts_with(from.as_bytes()))
            .collect();
        assert!(!at.is_empty(), "{from}");
        at.into_iter()
            .for_each(|at| file[at..at + to.len()].copy_from_slice(to.as_bytes()));
        mapped(&file).err().unwrap().to_string()
    };
    assert!(replaced("llama", "gemma").contains("architecture \"gemma\""));
    assert!(
        replaced("blk.1.ffn_up.weight", "blk.1.ffn_UP.weight").contains("no tensor \"blk.1.ffn_up.weight\"")
    );
    assert!(replaced("llama.block_count", "llama.block_COUNT").contains("llama.block_count"));
    assert!(replaced("rope_freqs.weight", "cope_freqs.weight").contains("\"cope_freqs.weight\""));
    assert!(mapped(b"").is_err() && mapped(b"GGUF").is_err());
    let few = Shape {
        layers: 1,
        ..Shape::tiny(Architecture::Llama)
    };
    let mut file = bytes(&few);
    let at = file
        .windows(17)
        .position(|window| window == b"llama.block_count")
        .unwrap();
    file[at + 21] = 2;
    assert!(mapped(&file).err().unwrap().to_string().contains("blk.1."));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn any_damage_is_an_error_or_a_number(changes in prop::collection::vec((0usize..20_000, any::<u8>()), 1..6)) {
        let shape = Shape { layers: 1, ..Shape::tiny(Architecture::Llama) };
        let mut file = bytes(&shape);
        for (at, byte) in changes {
            let at = at % file.len();
            file[at] = byte;
        }
        if let Ok(base) = mapped(&file) {
            let mut model = LoraModel::new(&base, config(), 1).unwrap();
            let parameters = model.initial(1);
            let mut gradient = vec![0.0; parameters.len()];
            let result = model.loss_and_gradient(&parameters, &sequence(&[6], 2, 1), &mut gradient);
            prop_assert!(result.is_ok());
        }
    }
}
