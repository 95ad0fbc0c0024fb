//! Someone who signs: a key in a GnuPG home of its own, signatures by the real `gpg`.
//!
//! The home is removed and its agent ended on drop, so that no test leaves a process or a key behind.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

/// A release key and the `gpg` that holds it.
#[derive(Debug)]
pub struct Publisher {
    home: TempDir,
    name: String,
}

impl Publisher {
    /// Makes an Ed25519 signing key called `name`.
    pub fn new(name: &str) -> Result<Self> {
        // Short path: the agent's socket lies in it.
        let home = tempfile::Builder::new().prefix("sarai-gpg-").tempdir()?;
        let me = Self {
            home,
            name: format!("{name} <{name}@tests.invalid>"),
        };
        me.gpg(&[
            "--passphrase",
            "",
            "--quick-generate-key",
            &me.name,
            "ed25519",
            "sign",
            "1y",
        ])?;
        Ok(me)
    }

    /// GnuPG home.
    #[must_use]
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// Fingerprint of the primary key, upper-case hex.
    pub fn fingerprint(&self) -> Result<String> {
        let output = self.gpg(&["--with-colons", "--list-keys", &self.name])?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.lines()
            .find_map(|line| {
                line.strip_prefix("fpr:")?
                    .split(':')
                    .find(|f| f.len() == 40)
                    .map(str::to_owned)
            })
            .with_context(|| format!("gpg listed no fingerprint: {text}"))
    }

    /// Writes the certificate, ASCII armour.
    pub fn export(&self, to: &Path) -> Result<()> {
        let output = self.gpg(&["--armor", "--export", &self.name])?;
        ensure!(!output.stdout.is_empty(), "gpg exported nothing");
        std::fs::write(to, output.stdout).with_context(|| format!("write {}", to.display()))
    }

    /// Makes a detached signature `FILE.asc` and gives its path.
    pub fn sign(&self, file: &Path) -> Result<PathBuf> {
        let mut signature = file.as_os_str().to_owned();
        signature.push(".asc");
        let signature = PathBuf::from(signature);
        self.gpg(&[
            "--yes",
            "--local-user",
            &self.name,
            "--output",
            &signature.to_string_lossy(),
            "--armor",
            "--detach-sign",
            &file.to_string_lossy(),
        ])?;
        Ok(signature)
    }

    /// Revokes the key; [`Publisher::export`] then writes a revoked certificate.
    pub fn revoke(&self) -> Result<()> {
        let fingerprint = self.fingerprint()?;
        let revocation = self.home().join(format!("openpgp-revocs.d/{fingerprint}.rev"));
        let text =
            std::fs::read_to_string(&revocation).with_context(|| format!("read {}", revocation.display()))?;
        // gpg puts a colon before the armour so that nobody imports it by accident.
        let armed = self.home().join("revoke.asc");
        std::fs::write(&armed, text.replace("\n:-----BEGIN", "\n-----BEGIN"))?;
        self.gpg(&["--import", &armed.to_string_lossy()])?;
        Ok(())
    }

    fn gpg(&self, arguments: &[&str]) -> Result<Output> {
        let output = Command::new("gpg")
            .arg("--homedir")
            .arg(self.home())
            .args(["--batch", "--no-tty", "--quiet", "--pinentry-mode", "loopback"])
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .context("run gpg (package gpg)")?;
        ensure!(
            output.status.success(),
            "gpg {arguments:?} failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(output)
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        let _ = Command::new("gpgconf")
            .arg("--homedir")
            .arg(self.home())
            .args(["--kill", "all"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
    }
}
