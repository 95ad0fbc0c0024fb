//! What every task of the supervisor shares.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use jiff::Timestamp;
use sarai_wire::control::{CpuStatus, ModelStatus, PromptsStatus};
use tokio::sync::{mpsc, watch};

use crate::adapters::engines::Adapters;
use crate::adapters::merge::Merges;
use crate::audit::Checkpoints;
use crate::boot_time::Marks;
use crate::cgroup::{Kept, Tree};
use crate::config::Config;
use crate::cores::Assignment;
use crate::cores::topology::Topology;
use crate::governor::book::Book;
use crate::identity::Identity;
use crate::layout::Layout;
use crate::logs::Logs;
use crate::night::Nights;
use crate::power::Power;
use crate::problems::Problems;
use crate::reaper::Reaper;
use crate::service::Orders;
use crate::service::board::Board;

/// Handle to what is shared.
pub type App = Arc<Shared>;

/// What is shared.
pub struct Shared {
    /// When the supervisor started.
    pub started: Instant,
    /// Moments on the way up.
    pub marks: Marks,
    /// Where everything is.
    pub layout: Layout,
    /// The admin's settings.
    pub config: Config,
    /// Name of the machine.
    pub hostname: String,
    /// What the processor offers.
    pub cpu: CpuStatus,
    /// What the kernel says of the CPUs.
    pub topology: Topology,
    /// Who computes where.
    pub cores: Assignment,
    /// How the engines' CPUs are kept for them.
    pub kept: Kept,
    /// The cgroup tree, where there is one.
    pub tree: Option<Tree>,
    /// No true time is before this.
    pub oldest: Timestamp,
    /// Logs.
    pub logs: Logs,
    /// What an admin should look at.
    pub problems: Problems,
    /// Children.
    pub reaper: Reaper,
    /// States of the services.
    pub board: Board,
    /// Orders to the services.
    pub orders: Orders,
    /// States of the models.
    pub models: Mutex<Vec<ModelStatus>>,
    /// LoRA adapters in the engines.
    pub adapters: Adapters,
    /// Adapters that become part of their base.
    pub merges: Merges,
    /// The nights that teach.
    pub night: Nights,
    /// Which words the Omni-Loop uses.
    pub prompts: Mutex<PromptsStatus>,
    /// Signs the head of the audit log.
    pub audit: Checkpoints,
    /// Where the memory ladder stands.
    pub ladder: Book,
    /// Keys, once they are there.
    pub identity: Mutex<Option<Arc<Identity>>>,
    /// Whether the gateway has a server certificate to read.
    pub certified: watch::Sender<bool>,
    /// Addresses clients can use.
    pub addresses: Mutex<BTreeSet<IpAddr>>,
    /// Name under which the local network is told of this machine, without a domain, while it is.
    pub announced: Mutex<Option<String>>,
    /// The gateway's listening socket, once bound, and the port it has.
    pub tcp: Mutex<Option<(Arc<OwnedFd>, u16)>>,
    /// The way to the end of everything.
    pub power: mpsc::Sender<Power>,
}
