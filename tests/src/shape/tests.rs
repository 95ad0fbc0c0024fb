use super::*;

#[test]
fn the_full_shapes_have_the_parameters_of_the_published_models() {
    // 3.40 and 1.17 thousand million of the model cards; both encoders with their projections.
    for (model, mix, parameters) in [
        (Model::Omni, Mix::Q4KM, 3_397_103_616),
        (Model::Lfm2, Mix::Q4_0, 1_170_340_608),
    ] {
        assert_eq!(
            model.shape(mix, Extent::Full).parameters(),
            parameters,
            "{model:?}"
        );
    }
}

#[test]
fn files_are_as_large_as_the_published_ones() {
    for model in Model::ALL {
        let shape = model.shape(model.usual_mix(), Extent::Full);
        let size = shape.metadata.bytes().len() as u64 + shape.tensors.iter().map(Tensor::bytes).sum::<u64>();
        // Published sizes are rounded to three digits at best.
        let published = model.published_size();
        assert!(
            size.abs_diff(published) < published / 50,
            "{model:?}: {size} and {published}"
        );
    }
}

#[test]
fn the_same_seed_makes_the_same_file_and_says_in_its_head_what_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let shape = Model::Omni.shape(Mix::IQ4_NL, Extent::Small);
    let file = |name: &str, seed| {
        let path = folder.path().join(name);
        let mut last = 0;
        let size = write(&shape, seed, &path, &mut |done, _| last = done).unwrap();
        let bytes = std::fs::read(path).unwrap();
        assert_eq!(bytes.len() as u64, size);
        assert!(last <= size && last > size / 2);
        bytes
    };
    let first = file("a.gguf", 1);
    assert_eq!(first, file("b.gguf", 1));
    assert_ne!(first, file("c.gguf", 2));
    let head = &first[..64];
    assert!(
        head.windows(NOISE_KEY.len())
            .any(|part| part == NOISE_KEY.as_bytes())
    );
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
    assert_eq!(left.len(), 3, "nothing else stays: {left:?}");
}

#[test]
fn a_disk_without_room_is_said_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let mut shape = Model::Lfm2.shape(Mix::Q4_0, Extent::Small);
    shape.tensors[0].sides = vec![2048, 1 << 40];
    let error = write(&shape, 1, &folder.path().join("a.gguf"), &mut |_, _| ()).unwrap_err();
    assert!(format!("{error:#}").contains("--out"), "{error:#}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn names_are_read_in_any_case_and_the_projector_takes_what_is_published() {
    assert_eq!(Mix::parse("q4_k_m"), Some(Mix::Q4KM));
    assert_eq!(Mix::parse("iq4_nl"), Some(Mix::IQ4_NL));
    assert_eq!(Mix::parse("q9_9"), None);
    for model in Model::ALL {
        assert_eq!(Model::parse(model.name()), Some(model));
        assert!(model.takes(model.usual_mix()));
    }
    assert!(!Model::OmniProjector.takes(Mix::Q4KM));
}
