//! The supervisor from its first line to its last: build the pieces, start the tasks, wait for the end, end
//! everything in order.

use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Context;
use jiff::Timestamp;
use sarai_trust::manifest::Role;
use tokio::sync::{mpsc, watch};

use crate::app::{App, Shared};
use crate::audit::Checkpoints;
use crate::boot::{self, Steps};
use crate::boot_time::{Mark, Marks, since_boot};
use crate::cgroup::{self, Kept, Limits, Tree};
use crate::config::{Config, DEFAULT_HOSTNAME, MAX_FILE, read_bounded};
use crate::governor::book::Book;
use crate::layout::{Layout, Mode};
use crate::lock::Lock;
use crate::logs::{Echo, Logs, Writer};
use crate::night::Nights;
use crate::power::{self, Power};
use crate::problems::Problems;
use crate::reaper::Reaper;
use crate::service::announcer::{ANNOUNCER, Announcer};
use crate::service::driver::drive;
use crate::service::engine::Engine;
use crate::service::gateway::Gateway;
use crate::service::program::Program;
use crate::service::{FALLBACK, PRIMARY};
use crate::watchdog::Watchdog;
use crate::{
    console, control, cores, cpu, governor, models, network, night, service, sockets, spawn, status, tasks,
};

mod end;

/// Runs natively below `dir`, with the memory tree below the cgroup `group` if one is given. Ends after an ordered stop.
pub fn native(
    dir: &Path,
    listen: Option<std::net::SocketAddr>,
    group: Option<&Path>,
) -> anyhow::Result<ExitCode> {
    let (started, begun) = (Instant::now(), since_boot());
    let layout = Layout::native(dir).context("failed to prepare the folders")?;
    layout
        .check_socket_paths()
        .map_err(|e| anyhow::anyhow!("failed to {e}"))?;
    layout
        .make_folders()
        .map_err(|e| anyhow::anyhow!("failed to {e}"))?;
    let _lock = Lock::take(&layout.run).map_err(|e| anyhow::anyhow!("failed to {e}"))?;
    spawn::reserve_descriptors().context("failed to open /dev/null")?;
    let echo = nix::unistd::dup(std::io::stderr()).map_or(Echo::None, |fd| Echo::Everything(fd.into()));
    let logs = Logs::new(Some(Writer::start(echo).context("failed to start the log")?));
    logs.open(layout.log());
    let problems = Problems::new(logs.clone());
    // Orphans of our children come to us, as they would to PID 1.
    let _ = nix::sys::prctl::set_child_subreaper(true);
    let mut config = read_config(&layout, &problems, None);
    logs.zone(config.zone.clone());
    if let Some(listen) = listen {
        config.listen = listen;
    }
    let name = nix::unistd::gethostname()
        .ok()
        .and_then(|name| name.into_string().ok());
    let hostname = config
        .hostname
        .clone()
        .or(name)
        .unwrap_or_else(|| DEFAULT_HOSTNAME.to_owned());
    logs.say(if layout.separate {
        "native: engine and gateway run as users of their own"
    } else {
        "native: every process runs as the user who started it"
    });
    let tree = match group {
        None => {
            logs.say("no cgroups, no memory budget");
            None
        }
        Some(group) => {
            let (tree, said) = take_tree(group, &config)
                .with_context(|| format!("failed to make the memory tree in {}", group.display()))?;
            match said {
                Ok(said) => logs.say(&format!("cgroups: {said}")),
                Err(wrong) => problems.set("cgroups", format!("cgroups: {wrong}")),
            }
            Some(tree)
        }
    };
    let pieces = Pieces {
        started,
        marks: Marks::begun(begun),
        layout,
        config,
        hostname,
        oldest: Timestamp::now(),
        logs,
        problems,
        tree,
    };
    go(pieces)?;
    Ok(ExitCode::SUCCESS)
}

/// Runs as PID 1. Never returns: whatever fails, the console and the control socket stay.
pub fn pid1() -> ! {
    let (started, begun) = (Instant::now(), since_boot());
    let mounted = boot::mounts::all();
    let _ = spawn::reserve_descriptors();
    let layout = Layout::image();
    let echo = boot::console().map_or(Echo::None, |file| Echo::Own(file, started));
    let logs = Logs::new(Writer::start(echo).ok());
    let problems = Problems::new(logs.clone());
    hook_panics(&logs);
    // Ctrl-Alt-Del comes as a signal instead of restarting the machine at once.
    let _ = nix::sys::reboot::set_cad_enabled(false);
    logs.say(&format!("SARAi {}", env!("CARGO_PKG_VERSION")));
    let steps = Steps::new(&logs, &problems);
    steps.run("mounts", || mounted);
    let (found, setup) = boot::first(&steps);
    let config = read_config(&layout, &problems, setup.as_deref());
    logs.zone(config.zone.clone());
    steps.run("keys", || boot::setup::hand_out(&config, &layout.run));
    let hostname = config
        .hostname
        .clone()
        .unwrap_or_else(|| DEFAULT_HOSTNAME.to_owned());
    let mut tree = None;
    // Before anything grows: what is allocated now is billed to the group this process is in now. The budget is a
    // setting, and the settings are on a disk: what was read until here is a few pages.
    steps.run("cgroups", || {
        let (made, said) = take_tree(Path::new(cgroup::ROOT), &config)
            .map_err(|e| format!("no memory budget is enforced: {e}"))?;
        tree = Some(made);
        said
    });
    let oldest = boot::run(&steps, &layout, &hostname, &found);
    let pieces = Pieces {
        started,
        marks: Marks::begun(begun),
        layout,
        config,
        hostname,
        oldest,
        logs: logs.clone(),
        problems,
        tree,
    };
    if let Err(e) = go(pieces) {
        logs.say(&format!("problem: {e:#}"));
    }
    // Only reached when the machine could not be switched off or the runtime could not be built.
    loop {
        std::thread::sleep(Duration::from_secs(60));
    }
}

/// Makes the tree, ends what is left in it, and moves there. The second says what holds now, or what could not be set.
fn take_tree(root: &Path, config: &Config) -> std::io::Result<(Tree, Result<String, String>)> {
    let machine = status::machine_memory().0;
    let limits = Limits::of(config.budget, machine, config.training.memory);
    let (tree, mut wrong) = Tree::make(root, limits)?;
    let mut said = format!("budget {} MiB", tree.limits().budget >> 20);
    match tree.clear() {
        Ok(None) => {}
        Ok(Some(named)) => {
            said.push_str("; left behind by an earlier supervisor and ended: ");
            said.push_str(&named);
        }
        Err(e) => wrong.push(format!("left behind by an earlier supervisor: {e}")),
    }
    if let Err(e) = tree.enter() {
        wrong.push(format!("the supervisor's own memory is not protected: {e}"));
    }
    let said = if wrong.is_empty() {
        Ok(said)
    } else {
        Err(wrong.join("; "))
    };
    Ok((tree, said))
}

/// A panic is a line of the log; the task it was in starts again.
fn hook_panics(logs: &Logs) {
    let logs = logs.clone();
    std::panic::set_hook(Box::new(move |info| logs.say(&format!("panic: {info}"))));
}

/// Says what is wrong with a file of settings, as the machine will on its console.
#[must_use]
pub fn check_setup(file: &Path) -> ExitCode {
    let text = match read_bounded(file, MAX_FILE) {
        Ok(Some(text)) => text,
        Ok(None) => {
            eprintln!("sarai-supervisor: {} is not there", file.display());
            return ExitCode::from(2);
        }
        Err(e) => {
            eprintln!("sarai-supervisor: {} cannot be read: {e}", file.display());
            return ExitCode::from(2);
        }
    };
    let (_, wrong) = Config::defaults(Mode::Pid1).over(&text);
    for problem in &wrong {
        println!("{problem}");
    }
    if wrong.is_empty() {
        println!("{}: every setting is in order", file.display());
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// The settings, with those of the boot partition's `setup` over them.
fn read_config(layout: &Layout, problems: &Problems, setup: Option<&str>) -> Config {
    let (mut config, mut wrong) = Config::load(&layout.etc.join("sarai.toml"), layout.mode);
    if let Some(text) = setup {
        let (over, more) = config.over(text);
        config = over;
        wrong.extend(more.into_iter().map(|text| format!("boot partition: {text}")));
    }
    for (n, text) in wrong.into_iter().enumerate() {
        problems.set(&format!("setting {n:03}"), text);
    }
    config
}

struct Pieces {
    started: Instant,
    marks: Marks,
    layout: Layout,
    config: Config,
    hostname: String,
    oldest: Timestamp,
    logs: Logs,
    problems: Problems,
    tree: Option<Tree>,
}

fn go(pieces: Pieces) -> anyhow::Result<()> {
    let usable = cores::usable();
    let mut topology = cores::topology::read(Path::new("/sys"), &usable);
    let split = cores::assign(&topology);
    let (kept, why) = match &pieces.tree {
        Some(tree) => tree.place(&split),
        None if split.shared() => (Kept::Shared, None),
        None => (Kept::Affinity, None),
    };
    topology.notes.extend(why);
    if let Err(e) = cores::pin_self(&split.house) {
        pieces.problems.set(
            "cores",
            format!("the supervisor is not kept on its own CPUs: {e}"),
        );
    }
    let (power, ending) = mpsc::channel(4);
    let audit = Checkpoints::start(pieces.layout.checkpoints(), pieces.problems.clone())
        .context("failed to start the thread that signs the audit log")?;
    let night = Nights::open(&pieces.layout.state(), &pieces.problems);
    let app: App = Arc::new(Shared {
        started: pieces.started,
        marks: pieces.marks,
        audit,
        layout: pieces.layout,
        hostname: pieces.hostname,
        cpu: cpu::detect(usable.len()),
        topology,
        cores: split,
        kept,
        tree: pieces.tree,
        oldest: pieces.oldest,
        logs: pieces.logs,
        problems: pieces.problems,
        reaper: Reaper::default(),
        board: service::board::Board::default(),
        orders: service::Orders::default(),
        models: Mutex::default(),
        adapters: crate::adapters::engines::Adapters::default(),
        merges: crate::adapters::merge::Merges::default(),
        night,
        prompts: Mutex::default(),
        ladder: Book::default(),
        identity: Mutex::default(),
        certified: watch::Sender::new(false),
        addresses: Mutex::default(),
        announced: Mutex::default(),
        tcp: Mutex::default(),
        power,
        config: pieces.config,
    });
    crate::adapters::merge::tidy(&app);
    if let Some(missing) = cpu::below_floor(&app.cpu) {
        app.problems.set("cpu", missing);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(8)
        .build()
        .context("failed to build the runtime")?;
    let outcome = runtime.block_on(serve(Arc::clone(&app), ending));
    // A thread that still hashes a model must not hold up the end.
    runtime.shutdown_background();
    if let Some(power) = outcome {
        end::machine(&app, power);
    }
    Ok(())
}

/// Starts every task, waits for the end, and ends the services. Returns how the machine is to end, as PID 1.
async fn serve(app: App, mut ending: mpsc::Receiver<Power>) -> Option<Power> {
    let guard = |name: &str, make: fn(App) -> BoxFuture| {
        let shared = Arc::clone(&app);
        tasks::guard(name, app.problems.clone(), move || make(Arc::clone(&shared)));
    };
    guard("reaper", |app| Box::pin(app.reaper.clone().run()));
    guard("signals", |app| Box::pin(power::signals(app)));
    app.marks.set(Mark::Services);
    start_control(&app);
    guard("certificates", |app| Box::pin(network::certify(app)));
    start_services(&app);
    guard("governor", |app| Box::pin(governor::run(app)));
    guard("nights", |app| Box::pin(night::run(app)));
    guard("news of the nights", |app| Box::pin(night::notice::tell(app)));
    let watchdog = (app.layout.mode == Mode::Pid1).then(|| Watchdog::open(&app));
    if let Some(watchdog) = &watchdog {
        guard("buttons", |app| Box::pin(power::buttons(app)));
        guard("dhcp", |app| Box::pin(boot::dhcp::run(app)));
        boot::ntp::start(&app);
        guard("clock", |app| Box::pin(boot::clock::keep(app)));
        if app.config.reach.ssh {
            guard("ssh keys", |app| Box::pin(service::ssh::run(app)));
        }
        guard("console", |app| Box::pin(console::run(app)));
        let (watchdog, shared) = (watchdog.clone(), Arc::clone(&app));
        tasks::guard("watchdog", app.problems.clone(), move || {
            watchdog.clone().run(Arc::clone(&shared))
        });
    }
    // The sender is in `app`, so this ends with an order and not before.
    let power = ending.recv().await.unwrap_or(Power::Off);
    app.logs.say(match power {
        Power::Off => "shutting down",
        Power::Reboot => "restarting",
    });
    end::services(&app).await;
    (app.layout.mode == Mode::Pid1).then(|| {
        if let Some(watchdog) = watchdog {
            // Time for the rest of the end; closed just before the last call.
            watchdog.feed();
            end::remember(&watchdog);
        }
        power
    })
}

type BoxFuture = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

fn start_control(app: &App) {
    let group = (app.layout.mode == Mode::Pid1).then_some(spawn::ADMIN.id);
    match sockets::unix(&app.layout.control_socket(), group) {
        Ok(listener) => {
            let (shared, listener) = (Arc::clone(app), Arc::new(listener));
            tasks::guard("control", app.problems.clone(), move || {
                control::serve(Arc::clone(&shared), Arc::clone(&listener))
            });
        }
        Err(e) => app.problems.set(
            "control",
            format!(
                "the control socket {} cannot be bound: {e}",
                app.layout.control_socket().display()
            ),
        ),
    }
}

fn start_services(app: &App) {
    let roles = models::enter(app);
    let shared = !app.layout.separate;
    let user = |user: spawn::User| {
        if shared {
            current_user()
        } else {
            user.name.to_owned()
        }
    };
    for (name, role) in [(PRIMARY, Role::Primary), (FALLBACK, Role::Fallback)] {
        if !roles.contains(&role) {
            continue;
        }
        app.board.enter(name, &user(spawn::ENGINE), &app.cores.engine);
        start_service(app, name, move || Engine::new(name, role));
    }
    if roles.contains(&Role::Projector) {
        let shared = Arc::clone(app);
        // Shown in status; handed to an engine once the appliance sees.
        tokio::spawn(async move { drop(models::verify(&shared, Role::Projector).await) });
    }
    let fallback = roles.contains(&Role::Fallback);
    app.board
        .enter(service::GATEWAY, &user(spawn::GATEWAY), &app.cores.house);
    start_service(app, service::GATEWAY, move || Gateway::new(fallback));
    if app.config.reach.announce {
        app.board
            .enter(ANNOUNCER, &user(spawn::ANNOUNCE), &app.cores.house);
        start_service(app, ANNOUNCER, || Announcer);
    }
}

fn start_service<P: Program>(app: &App, name: &str, make: impl Fn() -> P + Send + 'static) {
    let orders = Arc::new(tokio::sync::Mutex::new(app.orders.register(name)));
    let shared = Arc::clone(app);
    tasks::guard(name, app.problems.clone(), move || {
        drive(Arc::clone(&shared), make(), Arc::clone(&orders))
    });
}

pub(crate) fn current_user() -> String {
    let uid = nix::unistd::geteuid();
    nix::unistd::User::from_uid(uid)
        .ok()
        .flatten()
        .map_or_else(|| uid.to_string(), |user| user.name)
}
