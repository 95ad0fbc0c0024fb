//! Models of random weights in the product's shape: the writer that makes 2 GB of them makes some megabytes here.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};
use sarai_tests::appliance::Appliance;
use sarai_tests::gguf::Tiny;
use sarai_tests::model::Artifact;
use sarai_tests::process::output_of;
use sarai_tests::shape::{self, Extent, Mix, Model};
use sarai_tests::tree;
use serde_json::json;

use crate::common;

fn small(model: Model, mix: Mix, folder: &Path) -> Result<std::path::PathBuf> {
    let shape = model.shape(mix, Extent::Small);
    let path = folder.join(&shape.file);
    shape::write(&shape, 1, &path, &mut |_, _| ())?;
    Ok(path)
}

#[test]
fn shapes_of_noise_load_and_answer_in_the_whole_appliance() -> Result<()> {
    let _any = tree::shared();
    let folder = tempfile::tempdir()?;
    for mix in [Mix::Q4KM, Mix::IQ4_NL, Mix::Q4_0, Mix::Q8_0] {
        let artifacts = [
            Artifact::new(
                "primary",
                "noise-omni",
                &small(Model::Omni, mix, folder.path())?,
                512,
            )?,
            Artifact::new(
                "fallback",
                "noise-lfm2",
                &small(Model::Lfm2, mix, folder.path())?,
                512,
            )?,
        ];
        let mut appliance = Appliance::start_with(&artifacts, "[gateway]\nprimary_silence_ms = 6000")?;
        let client = appliance.keyed()?;
        let ask = json!({
            "model": "sarai",
            "messages": [{"role": "user", "content": "¿Qué dice un modelo de ruido? 1 + 1 = 2, naïve 漢字 🙂"}],
            "max_tokens": 16,
            "temperature": 0.0,
            "reasoning_effort": "none",
        });
        let answer = client.chat(&ask)?.ok()?;
        ensure!(common::fallback_reason(&answer)?.is_none(), "{mix}: {answer}");
        ensure!(
            answer["usage"]["completion_tokens"].as_u64() > Some(0),
            "{mix}: {answer}"
        );
        // What was said, said twice: noise, but not at random. The first answer is no witness: its prompt was read in
        // one batch, whose sums differ from those of single tokens on some processors, and noise has no clear favourites.
        let [once, twice] = [client.chat(&ask)?.ok()?, client.chat(&ask)?.ok()?];
        ensure!(
            once["choices"][0]["message"] == twice["choices"][0]["message"],
            "{mix}: {once} and {twice}"
        );
        // The fallback's file is as good.
        sarai_tests::process::signal(
            appliance.service_pid("engine-primary")?,
            nix::sys::signal::Signal::SIGSTOP,
        )?;
        let answer = client.chat(&ask)?.ok()?;
        ensure!(common::fallback_reason(&answer)?.is_some(), "{mix}: {answer}");
    }
    Ok(())
}

#[test]
fn each_tensor_has_the_type_that_the_quantiser_gives_it() -> Result<()> {
    let _any = tree::shared();
    let folder = tempfile::tempdir()?;
    for model in [Model::Omni, Model::Lfm2] {
        let floats = small(model, Mix::F16, folder.path())?;
        for mix in [Mix::Q8_0, Mix::Q4_0, Mix::IQ4_NL, Mix::Q4KM] {
            let quantised = folder.path().join("quantised.gguf");
            output_of(
                Command::new(tree::program("sarai-quantise")?)
                    .args([&floats, &quantised])
                    .arg(mix.name()),
            )?;
            let mut theirs = shape::tensors(&quantised)?;
            let mut ours = shape::tensors(&small(model, mix, folder.path())?)?;
            theirs.sort();
            ours.sort();
            assert_eq!(ours, theirs, "{model:?} as {mix}");
            fs::remove_file(quantised)?;
        }
    }
    Ok(())
}

#[test]
fn noise_is_signed_only_by_who_says_so_and_comes_on_no_image() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let model = small(Model::Lfm2, Mix::Q4_0, folder.path())?;
    let script = |name: &str| {
        let mut command = Command::new(tree::root().join("scripts").join(name));
        command.env("SARAI_PROGRAMS", tree::binaries().unwrap());
        command
    };
    let refused = script("sign")
        .arg(&model)
        .args(["--kind", "model", "--id", "noise"])
        .output()?;
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(!refused.status.success() && words.contains("--noise"), "{words}");
    ensure!(!model.with_extension("toml").exists(), "nothing is left of it");

    let key = folder.path().join("key");
    output_of(script("dev-key").arg(&key))?;
    output_of(
        script("sign")
            .arg(&model)
            .args(["--kind", "model", "--id", "noise", "--noise", "--gnupghome"])
            .arg(key.join("gnupg")),
    )?;
    ensure!(
        model.with_extension("toml.asc").exists(),
        "signed when asked for by name"
    );

    let manifest = folder.path().join("models-manifest.toml");
    let artifact = Artifact {
        pinned: false,
        ..Artifact::new("primary", "noise", &model, 512)?
    };
    sarai_tests::model::write_manifest(&manifest, &[artifact])?;
    let before = fs::read_to_string(&manifest)?;
    let pin = || {
        let mut command = script("pin-models");
        command.args([sarai_tests::model::PROFILE, "--from"]);
        command.arg(folder.path()).arg("--manifest").arg(&manifest);
        command.output()
    };
    let refused = pin()?;
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(
        !refused.status.success() && words.contains("holds random weights"),
        "{words}"
    );
    ensure!(
        fs::read_to_string(&manifest)? == before,
        "nothing is pinned of it"
    );
    // It is the noise that is refused: the same entry with another file of that name is pinned.
    let aside = folder.path().join("noise.aside");
    fs::rename(&model, &aside)?;
    Tiny::default().write(&model)?;
    let pinned = pin()?;
    ensure!(
        pinned.status.success() && fs::read_to_string(&manifest)?.contains("sha256 = "),
        "{pinned:?}"
    );
    fs::rename(&aside, &model)?;

    let image = script("build-vm-image")
        .arg("--models")
        .arg(folder.path())
        .arg("--out")
        .arg(folder.path().join("image"))
        .output()?;
    let words = String::from_utf8_lossy(&image.stderr).into_owned();
    ensure!(
        !image.status.success() && words.contains("in no image"),
        "{words}"
    );
    Ok(())
}
