//! The real gpg in a home of its own, and a model store to sign in.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use jiff::Timestamp;
use sarai_trust::{Attestation, Digest, FORMAT, Kind, hash_file};
use tempfile::TempDir;

/// A GNUPGHOME that ends with its agent.
pub struct Gpg {
    home: TempDir,
    /// Every call pretends that it is this moment, such as `20200101T000000`.
    pub time: Option<&'static str>,
}

impl Gpg {
    /// An empty home.
    pub fn new() -> Self {
        // Not below the target folder: the agent's socket needs a short path.
        let home = tempfile::Builder::new()
            .prefix("sarai-gpg")
            .tempdir_in("/tmp")
            .unwrap();
        std::fs::set_permissions(home.path(), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        Self { home, time: None }
    }

    /// A home with one key, Ed25519, that signs and never ends.
    pub fn with_key(user_id: &str) -> Self {
        let gpg = Self::new();
        gpg.generate(user_id, "ed25519", "never");
        gpg
    }

    /// Makes a key without a passphrase.
    pub fn generate(&self, user_id: &str, algorithm: &str, expires: &str) {
        self.ok(
            &[
                "--passphrase",
                "",
                "--quick-generate-key",
                user_id,
                algorithm,
                "sign",
                expires,
            ],
            "",
        );
    }

    /// Runs gpg with text on its standard input.
    pub fn run(&self, args: &[&str], input: &str) -> Output {
        let mut command = Command::new("gpg");
        command.env("GNUPGHOME", self.home.path()).env("LC_ALL", "C");
        command.args([
            "--batch",
            "--yes",
            "--quiet",
            "--no-tty",
            "--pinentry-mode",
            "loopback",
        ]);
        if let Some(time) = self.time {
            command.args(["--faked-system-time", &format!("{time}!")]);
        }
        command
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("gpg is installed");
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), input.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    }

    /// Runs gpg, which must succeed; what it prints.
    pub fn ok(&self, args: &[&str], input: &str) -> Vec<u8> {
        let output = self.run(args, input);
        assert!(
            output.status.success(),
            "gpg {args:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        output.stdout
    }

    /// The fingerprint of the first key.
    pub fn fingerprint(&self) -> String {
        let list = String::from_utf8(self.ok(&["--with-colons", "--list-keys"], "")).unwrap();
        list.lines()
            .find_map(|l| l.strip_prefix("fpr:::::::::"))
            .unwrap()
            .trim_end_matches(':')
            .to_owned()
    }

    /// Writes the certificates into a keyring folder.
    pub fn export(&self, keyring: &Path, name: &str) {
        std::fs::write(keyring.join(name), self.ok(&["--armor", "--export"], "")).unwrap();
    }

    /// A detached armored signature over a file, written beside it.
    pub fn sign(&self, document: &Path) {
        self.sign_with(document, &[]);
    }

    /// The same with further arguments.
    pub fn sign_with(&self, document: &Path, more: &[&str]) {
        let path = document.to_str().unwrap();
        let signature = format!("{path}.asc");
        let args = [
            &["--armor"],
            more,
            &["--detach-sign", "--output", &signature, path],
        ]
        .concat();
        self.ok(&args, "");
    }

    /// Revokes the key as compromised with the certificate that gpg made together with it.
    pub fn revoke(&self) {
        let path = self
            .home
            .path()
            .join(format!("openpgp-revocs.d/{}.rev", self.fingerprint()));
        // gpg puts a colon before the armor, so that nobody revokes by accident.
        let text = std::fs::read_to_string(path)
            .unwrap()
            .replace(":-----BEGIN", "-----BEGIN");
        self.ok(&["--import"], &text);
    }

    /// Revokes the key for a reason: 1 compromised, 2 superseded, 3 no longer used.
    pub fn revoke_because(&self, reason: u8) {
        let answers = format!("y\n{reason}\ngiven by a test\n\ny\n");
        // `--batch` allows no questions: this one call goes without it.
        let mut command = Command::new("gpg");
        command.env("GNUPGHOME", self.home.path()).env("LC_ALL", "C");
        command.args([
            "--no-tty",
            "--pinentry-mode",
            "loopback",
            "--command-fd",
            "0",
            "--status-fd",
            "2",
        ]);
        if let Some(time) = self.time {
            command.args(["--faked-system-time", &format!("{time}!")]);
        }
        command.args(["--gen-revoke", &self.fingerprint()]);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), answers.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        self.ok(&["--import"], &String::from_utf8(output.stdout).unwrap());
    }
}

impl Drop for Gpg {
    fn drop(&mut self) {
        let _ = Command::new("gpgconf")
            .arg("--homedir")
            .arg(self.home.path())
            .args(["--kill", "all"])
            .status();
    }
}

/// A model store with a keyring folder beside it.
pub struct Store {
    folder: TempDir,
}

/// The artifact of every store.
pub const FILE: &str = "model.gguf";

impl Store {
    /// A store that holds one small artifact and no document.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["store", "keyring"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        let store = Self { folder };
        std::fs::write(store.path(FILE), b"GGUF and what follows it".repeat(1000)).unwrap();
        store
    }

    pub fn store(&self) -> PathBuf {
        self.folder.path().join("store")
    }

    pub fn keyring(&self) -> PathBuf {
        self.folder.path().join("keyring")
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.store().join(name)
    }

    pub fn document(&self) -> PathBuf {
        self.path("model.toml")
    }

    /// A right attestation of the artifact.
    pub fn attestation(&self) -> Attestation {
        let file = std::fs::File::open(self.path(FILE)).unwrap();
        let hashes = hash_file(&file, &mut |_, _| ()).unwrap();
        Attestation {
            format: FORMAT,
            kind: Kind::Model,
            id: "test-model".into(),
            version: "1.0.0".into(),
            sequence: 5,
            expires: None,
            size: hashes.size,
            sha256: hashes.sha256,
            verity: hashes.verity,
            base: None,
            memory: None,
            probe: None,
        }
    }

    /// An attestation of the artifact as an adapter.
    pub fn adapter(&self, base: Digest) -> Attestation {
        Attestation {
            kind: Kind::Adapter,
            base: Some(base),
            ..self.attestation()
        }
    }

    pub fn write(&self, attestation: &Attestation) {
        std::fs::write(self.document(), attestation.render().unwrap()).unwrap();
    }
}

/// A moment.
pub fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}
