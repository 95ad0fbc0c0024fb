//! Drives a service without a birth socket: started, and started again when it ends.

use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::Signal;
use sarai_wire::control::ServiceState;
use tokio::sync::{Mutex, mpsc, oneshot};

use super::Order;
use super::machine::{Event, Machine, Todo};
use crate::app::App;
use crate::reaper::Exit;
use crate::spawn::{self, Spec};

/// Time from SIGTERM to SIGKILL.
const DRAIN: Duration = Duration::from_secs(2);

/// A clean end after at least this long is a prompt that was left; sooner, it is a program that does not work.
const LEFT: Duration = Duration::from_secs(1);

/// Keeps the child that `make` describes running. A clean exit is no failure: a prompt that was left starts anew.
pub async fn keep(
    app: App,
    name: String,
    orders: Arc<Mutex<mpsc::Receiver<Order>>>,
    make: Arc<dyn Fn() -> std::io::Result<Spec<'static>> + Send + Sync>,
) {
    let mut orders = orders.lock().await;
    let mut machine = Machine::default();
    let mut stopped: Vec<oneshot::Sender<()>> = Vec::new();
    loop {
        app.board.state(&name, machine.state());
        let now = app.started.elapsed();
        let pause = match machine.todo() {
            Todo::Start => {
                run(
                    &app,
                    &name,
                    &mut machine,
                    &mut orders,
                    &mut stopped,
                    make.as_ref(),
                )
                .await;
                continue;
            }
            Todo::SleepUntil(until) => Some(until.saturating_sub(now)),
            Todo::Rest => {
                for told in stopped.drain(..) {
                    let _ = told.send(());
                }
                None
            }
            Todo::Watch | Todo::End => {
                machine.on(now, Event::Ended);
                continue;
            }
        };
        let order = match pause {
            Some(pause) => tokio::time::timeout(pause, orders.recv()).await,
            None => Ok(orders.recv().await),
        };
        let now = app.started.elapsed();
        match order {
            Ok(Some(order)) => take(&mut machine, now, order, &mut stopped),
            Ok(None) => return,
            Err(_) => machine.on(now, Event::Tick),
        }
    }
}

fn take(machine: &mut Machine, now: Duration, order: Order, stopped: &mut Vec<oneshot::Sender<()>>) {
    match order {
        Order::Restart(told) => {
            machine.on(now, Event::Restart);
            let _ = told.send(());
        }
        Order::Stop(told) => {
            machine.on(now, Event::Stop);
            stopped.push(told);
        }
        Order::Reload(told) => drop(told.send(())),
        Order::Ease(..) | Order::Forget(..) | Order::Adapter(..) | Order::Night(_) | Order::Notice => {}
    }
}

async fn run(
    app: &App,
    name: &str,
    machine: &mut Machine,
    orders: &mut mpsc::Receiver<Order>,
    stopped: &mut Vec<oneshot::Sender<()>>,
    make: &(dyn Fn() -> std::io::Result<Spec<'static>> + Send + Sync),
) {
    let mut child = match make().and_then(|spec| spawn::spawn(&app.reaper, &spec)) {
        Ok(child) => child,
        Err(e) => {
            app.board.ended(name, &format!("failed to start: {e}"));
            app.logs.say(&format!("{name}: failed to start: {e}"));
            machine.on(app.started.elapsed(), Event::Ended);
            return;
        }
    };
    if let Some(output) = child.output.take() {
        tokio::spawn(app.logs.clone().pump(name.to_owned(), output));
    }
    let begun = std::time::Instant::now();
    app.board.started(name, child.pid.as_raw(), None);
    app.board.confined(name, std::mem::take(&mut child.duties));
    machine.on(app.started.elapsed(), Event::Spawned);
    machine.on(app.started.elapsed(), Event::Ready);
    app.board.state(name, machine.state());
    let mut kill_at: Option<tokio::time::Instant> = None;
    let exit = loop {
        let deadline = kill_at.unwrap_or_else(|| tokio::time::Instant::now() + Duration::from_secs(3600));
        tokio::select! {
            exit = &mut child.exit => break exit.ok(),
            order = orders.recv() => {
                let Some(order) = order else { std::future::pending().await };
                let reload = matches!(order, Order::Reload(_));
                take(machine, app.started.elapsed(), order, stopped);
                app.board.state(name, machine.state());
                if !reload && kill_at.is_none() {
                    app.reaper.signal_group(child.pid, Signal::SIGTERM);
                    // An interactive program ignores SIGTERM; the end of its terminal it does not.
                    app.reaper.signal_group(child.pid, Signal::SIGHUP);
                    kill_at = Some(tokio::time::Instant::now() + DRAIN);
                }
            }
            () = tokio::time::sleep_until(deadline) => {
                if kill_at.is_some() {
                    app.reaper.signal_group(child.pid, Signal::SIGKILL);
                    kill_at = Some(tokio::time::Instant::now() + DRAIN);
                }
            }
        }
    };
    app.board.ended(
        name,
        &exit.map_or_else(|| "unknown".to_owned(), |exit| exit.to_string()),
    );
    if exit == Some(Exit::Code(0)) && begun.elapsed() >= LEFT && machine.state() == ServiceState::Ready {
        // Left on purpose: no failure, it starts anew at once.
        machine.on(app.started.elapsed(), Event::Restart);
    }
    machine.on(app.started.elapsed(), Event::Ended);
}
