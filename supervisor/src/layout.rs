//! Where everything is: one tree, below `/` in the image and below a folder natively.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Longest path a Unix socket may have, bytes (`sun_path` less its terminator).
pub const MAX_SOCKET_PATH: usize = 107;

/// How the supervisor runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// As the init of a dedicated machine.
    Pid1,
    /// As an ordinary process, for development.
    Native,
}

impl Mode {
    /// The word `status` shows.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Pid1 => "pid1",
            Self::Native => "native",
        }
    }
}

/// A path that cannot be used. Texts fit after "failed to".
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// The run folder's path is too long for the sockets in it.
    #[error(
        "use {path}: a socket's path is limited to {MAX_SOCKET_PATH} bytes and this one has {length}; use a shorter folder"
    )]
    SocketPathTooLong {
        /// The socket.
        path: PathBuf,
        /// Its length, bytes.
        length: usize,
    },
    /// A folder could not be made.
    #[error("make the folder {path}: {source}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The supervisor does not know where its own executable is.
    #[error("find the folder of the programs: {0}")]
    Programs(#[source] std::io::Error),
}

/// The folders of the appliance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// How the supervisor runs.
    pub mode: Mode,
    /// Programs, ggml backends and shared libraries.
    pub programs: PathBuf,
    /// Manifest, settings, release keyring.
    pub etc: PathBuf,
    /// Everything that outlives a restart.
    pub data: PathBuf,
    /// Sockets and what is public; empty at each start.
    pub run: PathBuf,
    /// Whether engine and gateway run as users of their own: always in the image, natively when root started the
    /// supervisor and those users can reach what they need.
    pub separate: bool,
}

impl Layout {
    /// The tree of the image.
    #[must_use]
    pub fn image() -> Self {
        Self {
            mode: Mode::Pid1,
            programs: "/usr/lib/sarai".into(),
            etc: "/etc/sarai".into(),
            data: "/data".into(),
            run: "/run/sarai".into(),
            separate: true,
        }
    }

    /// The tree below `dir`; programs are beside the supervisor's own executable.
    pub fn native(dir: &Path) -> Result<Self, LayoutError> {
        let dir = std::path::absolute(dir).map_err(LayoutError::Programs)?;
        let executable = std::env::current_exe().map_err(LayoutError::Programs)?;
        let programs = executable
            .parent()
            .map_or_else(|| PathBuf::from("/"), Path::to_path_buf);
        let separate = nix::unistd::geteuid().is_root()
            && [
                dir.as_path(),
                &programs.join("sarai-engine"),
                &programs.join("sarai-gateway"),
            ]
            .into_iter()
            .chain(
                [programs.join("lib"), programs.join("backends")]
                    .iter()
                    .map(PathBuf::as_path),
            )
            .all(anyone_reaches);
        Ok(Self {
            mode: Mode::Native,
            programs,
            etc: dir.join("etc"),
            data: dir.join("data"),
            run: dir.join("run"),
            separate,
        })
    }

    /// Model store.
    #[must_use]
    pub fn models(&self) -> PathBuf {
        self.data.join("models")
    }

    /// Adapter store.
    #[must_use]
    pub fn adapters(&self) -> PathBuf {
        self.data.join("adapters")
    }

    /// Adapters made part of their base, until an admin takes them away; the supervisor's alone.
    #[must_use]
    pub fn merged(&self) -> PathBuf {
        self.data.join("merged")
    }

    /// Device key and certificate authority; the supervisor's alone.
    #[must_use]
    pub fn keys(&self) -> PathBuf {
        self.data.join("keys")
    }

    /// What the gateway reads.
    #[must_use]
    pub fn gateway(&self) -> PathBuf {
        self.data.join("gateway")
    }

    /// The audit log, the gateway's own.
    #[must_use]
    pub fn audit(&self) -> PathBuf {
        self.gateway().join("audit")
    }

    /// What clients say of answers, the gateway's own.
    #[must_use]
    pub fn feedback(&self) -> PathBuf {
        self.gateway().join("feedback")
    }

    /// What was signed of the audit log; the supervisor's alone.
    #[must_use]
    pub fn checkpoints(&self) -> PathBuf {
        self.state().join("checkpoints")
    }

    /// Sequences, seed, clock.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.data.join("state")
    }

    /// What a night works with, made of what people said; the supervisor's alone.
    #[must_use]
    pub fn training(&self) -> PathBuf {
        self.data.join("training")
    }

    /// Rotated logs.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.data.join("log")
    }

    /// Listening socket of an engine, by the service's name.
    #[must_use]
    pub fn engine_socket(&self, service: &str) -> PathBuf {
        self.run.join(format!("{service}.sock"))
    }

    /// The admin's socket.
    #[must_use]
    pub fn control_socket(&self) -> PathBuf {
        self.run.join(sarai_wire::control::SOCKET_NAME)
    }

    /// Public copy of the certificate authority's certificate.
    #[must_use]
    pub fn ca(&self) -> PathBuf {
        self.run.join("ca.crt")
    }

    /// Refuses a run folder whose sockets could not be bound, before anything is started.
    pub fn check_socket_paths(&self) -> Result<(), LayoutError> {
        let path = self.engine_socket("engine-fallback");
        let length = path.as_os_str().as_bytes().len();
        if length > MAX_SOCKET_PATH {
            Err(LayoutError::SocketPathTooLong { path, length })
        } else {
            Ok(())
        }
    }

    /// Makes every folder that is missing; keys and state are the owner's alone.
    pub fn make_folders(&self) -> Result<(), LayoutError> {
        use std::os::unix::fs::DirBuilderExt;
        let folders = [
            (self.data.clone(), 0o755),
            (self.models(), 0o755),
            // Made of what people said.
            (self.adapters(), 0o700),
            (self.merged(), 0o700),
            (self.training(), 0o700),
            (self.keys(), 0o700),
            (self.gateway(), 0o750),
            (self.state(), 0o700),
            (self.log(), 0o750),
            (self.run.clone(), 0o755),
        ];
        for (path, mode) in folders {
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(mode)
                .create(&path)
                .map_err(|source| LayoutError::Folder {
                    path: path.clone(),
                    source,
                })?;
        }
        Ok(())
    }
}

/// Whether a user without any rights of their own gets to `path` and through it.
fn anyone_reaches(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    let Ok(path) = path.canonicalize() else {
        return false;
    };
    path.ancestors().all(|part| {
        part.metadata()
            .is_ok_and(|meta| meta.permissions().mode() & 0o001 != 0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_run_folder_too_deep_for_sockets_is_refused_with_the_numbers() {
        let deep = PathBuf::from(format!("/tmp/{}", "x".repeat(120)));
        let error = Layout::native(&deep)
            .unwrap()
            .check_socket_paths()
            .unwrap_err()
            .to_string();
        assert!(error.contains("107") && error.contains("shorter"), "{error}");
        Layout::image().check_socket_paths().unwrap();
    }

    #[test]
    fn a_folder_behind_a_closed_one_is_out_of_reach() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("inner");
        std::fs::create_dir(&inner).unwrap();
        let set = |path: &Path, mode| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        set(&inner, 0o755);
        set(dir.path(), 0o700);
        assert!(!anyone_reaches(&inner));
        set(dir.path(), 0o711);
        assert!(anyone_reaches(&inner));
        set(&inner, 0o750);
        assert!(!anyone_reaches(&inner));
        assert!(!anyone_reaches(&dir.path().join("missing")));
    }

    #[test]
    fn private_folders_are_made_private() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::native(dir.path()).unwrap();
        layout.make_folders().unwrap();
        layout.make_folders().unwrap();
        let mode = |p: PathBuf| std::fs::metadata(p).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(layout.keys()), 0o700);
        assert_eq!(mode(layout.state()), 0o700);
    }
}
