//! The running data plane: worker threads, their sockets, and the swap of configurations.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread::JoinHandle,
    time::Duration,
};

use tokio::sync::{mpsc, oneshot};

use crate::{
    listen::{Accepting, Drain, Gate, accept, socket},
    runtime::{Runtime, compile::ADMIN},
    worker::Worker,
};

/// How often workers look for connections that have been idle for too long.
const SWEEP: Duration = Duration::from_secs(1);

/// How a data plane is started.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Worker threads; 0 = one per available core.
    pub workers: usize,
}

/// The running data plane.
pub struct Data {
    workers: Vec<Hand>,
    gate: Arc<Gate>,
    open: Mutex<HashMap<Arc<str>, Opened>>,
    /// Addresses of listeners that vanished, for as long as a worker still has the socket.
    closing: Mutex<Vec<(SocketAddr, Weak<()>)>>,
    current: Mutex<Option<Arc<Runtime>>>,
}

/// A worker as its owner holds it.
struct Hand {
    worker: Arc<Worker>,
    tasks: mpsc::UnboundedSender<Accepting>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// A listener that is open.
struct Opened {
    wanted: SocketAddr,
    bound: SocketAddr,
    drain: Drain,
    /// Connections open on it, all workers together.
    count: Arc<AtomicUsize>,
    /// Held by the workers together with its sockets.
    held: Weak<()>,
}

/// Why a configuration could not be put in force. The old one still is.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// A listener could not be opened.
    #[error("listener {listener}: cannot listen on {address}: {source}")]
    Listen {
        /// The listener's name.
        listener: Arc<str>,
        /// Its address.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
}

impl Data {
    /// Starts the workers. They serve nothing before the first [`Data::apply`].
    ///
    /// # Errors
    /// A thread or its runtime cannot be started.
    pub fn start(options: &Options) -> io::Result<Data> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let count = if options.workers == 0 { cores } else { options.workers };
        let workers = (0..count).map(spawn).collect::<io::Result<Vec<_>>>()?;
        Ok(Data {
            workers,
            gate: Arc::default(),
            open: Mutex::default(),
            closing: Mutex::default(),
            current: Mutex::default(),
        })
    }

    /// How many workers there are.
    pub fn workers(&self) -> usize {
        self.workers.len()
    }

    /// Puts a configuration in force: new listeners are opened first; then all workers swap; then listeners that
    /// vanished drain.
    ///
    /// # Errors
    /// A listener cannot be opened. Nothing has changed then.
    pub fn apply(&self, runtime: Arc<Runtime>) -> Result<(), ApplyError> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let mut closing = self.closing.lock().unwrap_or_else(PoisonError::into_inner);
        closing.retain(|(_, held)| held.strong_count() > 0);
        let mut fresh = Vec::new();
        for (name, listener) in runtime.listeners.iter() {
            let wanted = listener.settings.address;
            if open.get(name).is_some_and(|opened| opened.wanted == wanted) {
                continue;
            }
            let failed = |source| ApplyError::Listen { listener: name.clone(), address: wanted, source };
            // An address that another listener leaves in this very reload, or left in the last, is no stranger's.
            let ours = open.values().any(|opened| opened.bound == wanted)
                || closing.iter().any(|(address, _)| *address == wanted);
            if !ours {
                socket::probe(wanted).map_err(failed)?;
            }
            let sockets = socket::open(wanted, self.workers.len()).map_err(failed)?;
            fresh.push((name.clone(), wanted, sockets));
        }
        self.gate.most.store(most_connections(runtime.model.max_connections), Relaxed);
        for hand in &self.workers {
            hand.worker.set_runtime(&runtime);
        }
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Some(runtime.clone());
        for (name, wanted, sockets) in fresh {
            let bound = sockets.first().and_then(|socket| socket.local_addr().ok()).unwrap_or(wanted);
            let drain = Drain::default();
            let count = Arc::new(AtomicUsize::new(0));
            let holds = Arc::new(());
            let held = Arc::downgrade(&holds);
            for (hand, socket) in self.workers.iter().zip(sockets) {
                let accepting = Accepting {
                    socket,
                    name: name.clone(),
                    drain: drain.clone(),
                    open: count.clone(),
                    gate: self.gate.clone(),
                    holds: holds.clone(),
                };
                // A worker that is gone takes no connections; the others do.
                let _ = hand.tasks.send(accepting);
            }
            if let Some(moved) = open.insert(name, Opened { wanted, bound, drain, count, held }) {
                moved.drain.begin();
                closing.push((moved.bound, moved.held));
            }
        }
        open.retain(|name, opened| {
            let stays = runtime.listeners.contains_key(name);
            if !stays {
                opened.drain.begin();
                closing.push((opened.bound, opened.held.clone()));
            }
            stays
        });
        Ok(())
    }

    /// Where the listeners really are: port 0 in the configuration becomes the port that the system chose.
    pub fn addresses(&self) -> Vec<(Arc<str>, SocketAddr)> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let mut addresses: Vec<_> = open.iter().map(|(name, opened)| (name.clone(), opened.bound)).collect();
        addresses.sort();
        addresses
    }

    /// The configuration in force.
    pub fn runtime(&self) -> Option<Arc<Runtime>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Connections open now, the admin listener's included.
    pub fn connections(&self) -> usize {
        self.gate.open.load(Relaxed)
    }

    /// Stops accepting, lets connections end, and cuts what is left at the deadline. Tells how many were cut. The admin
    /// listener answers until then, so that whoever asks whether we are ready is told that we are not.
    pub async fn drain(&self, deadline: Duration) -> usize {
        let (admin, others) = {
            let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            let all = open
                .iter()
                .map(|(name, opened)| (&**name == ADMIN, opened.drain.clone(), opened.count.clone()));
            all.partition::<Vec<_>, _>(|(is_admin, ..)| *is_admin)
        };
        others.iter().for_each(|(_, drain, _)| drain.begin());
        let of_admin = || admin.iter().map(|(.., count)| count.load(Relaxed)).sum::<usize>();
        let left = || self.connections().saturating_sub(of_admin());
        let end = tokio::time::Instant::now() + deadline;
        while left() > 0 && tokio::time::Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let cut = left();
        others.iter().chain(&admin).for_each(|(_, drain, _)| drain.cut_now());
        cut
    }
}

impl Drop for Data {
    fn drop(&mut self) {
        for hand in &mut self.workers {
            if let Some(stop) = hand.stop.take() {
                // The worker may have stopped already.
                let _ = stop.send(());
            }
        }
        for hand in &mut self.workers {
            if let Some(thread) = hand.thread.take() {
                // A worker that panicked has said so already.
                let _ = thread.join();
            }
        }
    }
}

/// Starts one worker's thread.
fn spawn(index: usize) -> io::Result<Hand> {
    let worker = Worker::new(index);
    let (tasks, mut inbox) = mpsc::unbounded_channel::<Accepting>();
    let (stop, stopped) = oneshot::channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ours = worker.clone();
    let thread = std::thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
        runtime.block_on(async move {
            tokio::spawn(ours.clock.clone().run());
            tokio::spawn(sweep(ours.clone()));
            tokio::spawn(async move {
                while let Some(accepting) = inbox.recv().await {
                    tokio::spawn(accept(accepting, ours.clone()));
                }
            });
            // An error means that the owner is gone: time to stop as well.
            let _ = stopped.await;
        });
        runtime.shutdown_background();
    })?;
    Ok(Hand { worker, tasks, stop: Some(stop), thread: Some(thread) })
}

/// Closes connections to endpoints that have been idle for too long.
async fn sweep(worker: Arc<Worker>) {
    loop {
        tokio::time::sleep(SWEEP).await;
        let Some(runtime) = worker.runtime() else { continue };
        for service in runtime.services.values() {
            for upstream in &service.upstreams {
                upstream.pools.sweep(worker.index, upstream.pool.idle_timeout);
            }
        }
    }
}

/// The configured bound, or 80 % of the descriptors this process may open (two for each request under way).
fn most_connections(configured: usize) -> usize {
    if configured > 0 {
        return configured;
    }
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let soft = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|soft| soft.parse::<usize>().ok());
    soft.map_or(0, |soft| soft / 5 * 4)
}
