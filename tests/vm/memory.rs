//! The budget and the cores as the kernel keeps them, and what happens when somebody wants more: bombs in each group
//! and outside, a fork bomb, an engine that stands still, a supervisor that comes back to groups that are not empty.
//! All in one machine: what one event leaves behind must not harm the next.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use sarai_tests::client::Client;
use sarai_tests::image::Image;
use sarai_tests::tree;
use sarai_tests::vm::RootShell;
use sarai_wire::control::{GroupStatus, ServiceState, ServiceStatus, Status};

use crate::common::{BOOT, Booted, COMMAND, SETTINGS, ask, ask_until_answered, pair};

/// The subtree.
const TREE: &str = "/sys/fs/cgroup/sarai";
/// A bomb of a gigabyte in an emulated machine.
const BOMB: Duration = Duration::from_secs(240);

fn group<'s>(status: &'s Status, name: &str) -> Result<&'s GroupStatus> {
    let found = status.groups.iter().find(|group| group.name == name);
    found.with_context(|| format!("no group {name} in {:#?}", status.groups))
}

fn service<'s>(status: &'s Status, name: &str) -> Result<&'s ServiceStatus> {
    let found = status.services.iter().find(|service| service.name == name);
    found.with_context(|| format!("no service {name} in {:#?}", status.services))
}

/// Restarts of everything that serves.
fn restarts(status: &Status) -> Result<[u32; 3]> {
    let of = |name| service(status, name).map(|service| service.restarts);
    Ok([of("engine-primary")?, of("engine-fallback")?, of("gateway")?])
}

/// The number behind `key` in a group's file.
fn keyed(root: &mut RootShell, file: &str, key: &str) -> Result<u64> {
    let text = root.run(&format!("cat {TREE}/{file}"), COMMAND)?;
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
    Ok(value
        .with_context(|| format!("no {key} in {file}: {text}"))?
        .trim()
        .parse()?)
}

fn number(root: &mut RootShell, file: &str) -> Result<u64> {
    let text = root.run(&format!("cat {TREE}/{file}"), COMMAND)?;
    text.trim().parse().with_context(|| format!("{file}: {text}"))
}

/// Takes so much memory in one piece, as a member of a group. Gives the exit status: 137 when the kernel ended it.
fn bomb(root: &mut RootShell, procs: &str, mib: u32) -> Result<String> {
    let line = format!(
        "busybox sh -c 'echo 0 >{procs} && exec busybox dd if=/dev/zero of=/dev/null bs={mib}M count=1' 2>/dev/null; echo bomb $?"
    );
    let said = root.run(&line, BOMB)?;
    let status = said.lines().find_map(|line| line.strip_prefix("bomb "));
    Ok(status
        .with_context(|| format!("no status in {said:?}"))?
        .to_owned())
}

/// Limits, cores and who is billed for the models.
fn as_promised(booted: &mut Booted, root: &mut RootShell, sizes: [u64; 2]) -> Result<()> {
    let status = booted.status()?;
    ensure!(status.problems.is_empty(), "{:?}", status.problems);
    let of_init = root.run("cat /proc/1/cgroup", COMMAND)?;
    ensure!(of_init.trim() == "0::/sarai/supervisor", "PID 1 is in {of_init}");
    let kept = number(root, "supervisor/memory.min")?;
    ensure!(
        kept == 32 << 20 && kept == number(root, "memory.min")?,
        "memory.min {kept}"
    );
    let budget = number(root, "memory.max")?;
    ensure!(
        status.memory.budget == Some(budget),
        "{:?} and {budget}",
        status.memory
    );
    let services = number(root, "services/memory.max")?;
    ensure!(services + kept == budget, "{services} + {kept} of {budget}");
    ensure!(
        number(root, "services/memory.high")? < services,
        "memory.high above memory.max"
    );
    let quota = root.run(&format!("cat {TREE}/services/trainer/cpu.max"), COMMAND)?;
    ensure!(quota.trim() == "200000 100000", "the trainer's CPUs: {quota}");

    // The engines are billed for what they map; hashing has left nothing with the supervisor.
    let of_supervisor = keyed(root, "supervisor/memory.stat", "file")?;
    for (name, size) in ["engine-primary", "engine-fallback"].iter().zip(sizes) {
        let stat = format!("services/engines/{name}/memory.stat");
        let (file, mapped) = (keyed(root, &stat, "file")?, keyed(root, &stat, "file_mapped")?);
        println!("{name}: {file} bytes of files, {mapped} mapped, model of {size}");
        ensure!(
            file >= size / 10 * 9,
            "{name} is billed for {file} bytes of its model's {size}"
        );
    }
    println!(
        "supervisor: {} bytes, {of_supervisor} of files",
        number(root, "supervisor/memory.current")?
    );
    ensure!(
        of_supervisor < sizes[0],
        "{of_supervisor} bytes of files stay billed to the supervisor"
    );

    let init = root.run("grep VmHWM: /proc/1/status", COMMAND)?;
    let most = init
        .split_whitespace()
        .nth(1)
        .context("no VmHWM")?
        .parse::<u64>()?;
    println!("PID 1: {most} KiB resident at most");
    ensure!(most <= 15 * 1024, "PID 1 had {most} KiB resident");

    // No word about speed in an emulated machine; four cores all the same.
    ensure!(
        status.cores.notes.iter().any(|note| note.contains("faster")),
        "{:?}",
        status.cores.notes
    );
    let engine: Vec<u32> = status
        .cores
        .cpus
        .iter()
        .filter(|cpu| cpu.owner == "engine")
        .map(|cpu| cpu.cpu)
        .collect();
    ensure!(engine == [1, 2, 3], "{:?}", status.cores);
    ensure!(
        service(&status, "engine-primary")?.cpus == engine,
        "{:?}",
        status.services
    );
    for (group, cpus) in [("services/engines", "1-3"), ("services/gateway", "0")] {
        let found = root.run(&format!("cat {TREE}/{group}/cpuset.cpus.effective"), COMMAND)?;
        ensure!(found.trim() == cpus, "{group} has the CPUs {found}");
    }
    let partition = format!(
        "test -e {TREE}/cpuset.cpus.exclusive && cat {TREE}/services/engines/cpuset.cpus.partition || echo old"
    );
    let partition = root.run(&partition, COMMAND)?;
    let kept = match partition.trim() {
        "isolated" => "isolated partition",
        "old" => "cpuset",
        other => anyhow::bail!("a partition that is {other}"),
    };
    ensure!(status.cores.kept == kept, "{:?}", status.cores);
    let human = booted.sarai("status")?;
    println!("{human}");
    ensure!(
        human.contains("engines 1-3") && human.contains("house 0"),
        "{human}"
    );
    Ok(())
}

/// A bomb in a service's group ends that service, which comes back, and nobody else.
fn bomb_in_a_service(
    booted: &mut Booted,
    root: &mut RootShell,
    client: &Client,
    (name, path, mib): (&str, &str, u32),
) -> Result<()> {
    let before = booted.status()?;
    let killed = group(&before, name)?.oom_kills.context("no count of kills")?;
    let status = bomb(root, &format!("{TREE}/{path}/cgroup.procs"), mib)?;
    ensure!(status == "137", "the bomb in {name} ended with {status}");
    ask_until_answered(client).with_context(|| format!("after the bomb in {name}"))?;
    let after = booted.wait_status(&format!("{name} to be back"), |s| {
        service(s, name).is_ok_and(|s| {
            s.state == ServiceState::Ready
                && s.last_exit
                    .as_deref()
                    .is_some_and(|how| how.contains("out of memory"))
        })
    })?;
    let now = group(&after, name)?.oom_kills.context("no count of kills")?;
    // The bomb, and the service with it: the group ends as a whole.
    ensure!(now >= killed + 2, "{name}: {killed} kills before, {now} after");
    for ((name_of, before), after) in ["engine-primary", "engine-fallback", "gateway"]
        .iter()
        .zip(restarts(&before)?)
        .zip(restarts(&after)?)
    {
        let wanted = before + u32::from(*name_of == name);
        ensure!(
            after == wanted,
            "{name_of} was started anew {after} times, not {wanted}, by the bomb in {name}"
        );
    }
    ask(client).map(drop)
}

/// A bomb outside the tree ends itself alone.
fn bomb_outside(booted: &mut Booted, root: &mut RootShell, client: &Client) -> Result<()> {
    let before = booted.status()?;
    let status = bomb(root, "/sys/fs/cgroup/cgroup.procs", 1400)?;
    ensure!(status == "137", "the bomb outside ended with {status}");
    ask(client).context("after the bomb outside")?;
    let after = booted.status()?;
    ensure!(
        restarts(&before)? == restarts(&after)?,
        "something of the house died for it: {:#?}",
        after.services
    );
    ensure!(
        after.memory.oom_kills > before.memory.oom_kills,
        "{:?}",
        after.memory
    );
    ensure!(group(&after, "supervisor")?.oom_kills == Some(0));
    Ok(())
}

/// A fork bomb in the trainer's group has as many processes as that may have, and everyone else goes on.
fn fork_bomb(booted: &mut Booted, root: &mut RootShell, client: &Client) -> Result<()> {
    let trainer = format!("{TREE}/services/trainer");
    root.run(
        &format!("busybox sh -c 'echo 0 >{trainer}/cgroup.procs; b() {{ b | b & }}; b' >/dev/null 2>&1"),
        COMMAND,
    )?;
    let bombed = booted.wait_status("the bomb to be refused", |s| {
        group(s, "trainer").is_ok_and(|trainer| trainer.refused.is_some_and(|n| n > 0))
    })?;
    let processes = group(&bombed, "trainer")?
        .processes
        .context("no count of processes")?;
    ensure!(processes <= 64, "{processes} processes");
    ask(client).context("while the fork bomb runs")?;
    root.run(&format!("echo 1 >{trainer}/cgroup.kill"), COMMAND)?;
    booted.wait_status("the bomb to be gone", |s| {
        group(s, "trainer").is_ok_and(|trainer| trainer.processes == Some(0))
    })?;
    Ok(())
}

/// The watchdog replaces an engine that stands still.
fn standstill(booted: &mut Booted, root: &mut RootShell, client: &Client) -> Result<()> {
    let before = booted.service("engine-primary")?;
    root.run(
        &format!("kill -STOP {}", before.pid.context("no process")?),
        COMMAND,
    )?;
    booted.wait_status("the engine to be replaced", |s| {
        service(s, "engine-primary").is_ok_and(|s| {
            s.state == ServiceState::Ready
                && s.restarts == before.restarts + 1
                && s.last_exit
                    .as_deref()
                    .is_some_and(|how| how.contains("no answer for"))
        })
    })?;
    ask_until_answered(client).map(drop)
}

/// Natively, below a cgroup of its own: a second supervisor is refused, and what a killed one left is ended.
fn natively(root: &mut RootShell) -> Result<()> {
    const GROUP: &str = "/sys/fs/cgroup/native";
    const START: &str = "busybox setsid /usr/lib/sarai/sarai-supervisor --native /run/n --listen 127.0.0.1:9443 --cgroup /sys/fs/cgroup/native </dev/null >>/run/n.log 2>&1 & echo $! >/run/n.pid";
    const END: &str = "kill -9 $(cat /run/n.pid)";
    root.run(&format!("busybox mkdir -p {GROUP} /run/n/etc"), COMMAND)?;
    root.run(START, COMMAND)?;
    let wait = |root: &mut RootShell, what: &str| {
        tree::wait_for(what, BOOT, || {
            let log = root.run("cat /run/n.log", COMMAND)?;
            ensure!(log.contains(what), "it said {log}");
            Ok(log)
        })
    };
    let log = wait(root, "gateway: ready")?;
    ensure!(
        log.contains("cgroups: budget ") && !log.contains("cgroups: cannot"),
        "{log}"
    );
    let second =
        "/usr/lib/sarai/sarai-supervisor --native /run/m --cgroup /sys/fs/cgroup/native 2>&1; echo status $?";
    let said = root.run(second, BOOT)?;
    ensure!(
        said.contains("another supervisor") && said.contains("status 1"),
        "{said}"
    );

    // Something that outlives its supervisor, as a child of a child may.
    let house = format!("{GROUP}/sarai/services/house/cgroup.procs");
    root.run(
        &format!("busybox setsid busybox sleep 10000 </dev/null & echo $! >{house}; echo $! >/run/left.pid"),
        COMMAND,
    )?;
    root.run(END, COMMAND)?;
    root.run(": >/run/n.log", COMMAND)?;
    root.run(START, COMMAND)?;
    let log = wait(root, "gateway: ready")?;
    ensure!(
        log.contains("left behind by an earlier supervisor and ended: ") && log.contains(") in house"),
        "{log}"
    );
    let left = root.run(
        "test -e /proc/$(cat /run/left.pid)/exe && echo lives || echo gone",
        COMMAND,
    )?;
    ensure!(left.trim() == "gone", "what was left behind {left}");
    root.run("kill $(cat /run/n.pid)", COMMAND)?;
    wait(root, "services ended").map(drop)
}

#[test]
fn whoever_wants_too_much_ends_alone_and_everything_else_serves() {
    let _alone = tree::alone();
    let models = pair().unwrap();
    let settings = SETTINGS.replace("silence_s = 60", "silence_s = 20");
    let image = Image::make(&models, &settings, |_| Ok(())).unwrap();
    let mut machine = image.machine_with_root_shell(Some(image.disk())).unwrap();
    machine.cpus = 4;
    let mut booted = Booted::new(&machine).unwrap();
    let (client, _, _) = booted.client("vm").unwrap();
    ask_until_answered(&client).unwrap();
    let mut root = booted.vm.root_shell(COMMAND).unwrap();
    let sizes = [0, 1].map(|n: usize| std::fs::metadata(&models[n].source).unwrap().len());
    as_promised(&mut booted, &mut root, sizes).unwrap();
    for bomb in [
        ("engine-primary", "services/engines/engine-primary", 1000),
        ("gateway", "services/gateway", 400),
    ] {
        bomb_in_a_service(&mut booted, &mut root, &client, bomb).unwrap();
    }
    bomb_outside(&mut booted, &mut root, &client).unwrap();
    fork_bomb(&mut booted, &mut root, &client).unwrap();
    standstill(&mut booted, &mut root, &client).unwrap();
    natively(&mut root).unwrap();
    let last = booted.status().unwrap();
    assert!(last.ready && last.problems.is_empty(), "{last:#?}");
    ask(&client).unwrap();
    println!("{}", booted.sarai("status").unwrap());
}
