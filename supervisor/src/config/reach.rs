//! How the machine is reached besides its API.

use super::reader::Section;
use crate::layout::Mode;

/// Settings of `[reach]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reach {
    /// Whether the local network is told the machine's name and service.
    pub announce: bool,
    /// Whether whoever has a key may come in by SSH.
    pub ssh: bool,
}

impl Reach {
    /// A developer's machine tells its network nothing unless asked to.
    #[must_use]
    pub fn defaults(mode: Mode) -> Self {
        Self {
            announce: mode == Mode::Pid1,
            ssh: mode == Mode::Pid1,
        }
    }
}

pub(super) fn reach(s: &mut Section<'_, '_>, to: &mut Reach) {
    s.flag("announce", &mut to.announce);
    s.flag("ssh", &mut to.ssh);
}
