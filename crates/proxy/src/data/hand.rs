//! A worker's thread: how it starts, what it is told, how it ends.

use std::{
    io,
    sync::{Arc, atomic::Ordering::Relaxed},
    thread::JoinHandle,
    time::Duration,
};

use portcullis_config::model::Name;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep},
};
use tokio_util::task::TaskTracker;

use crate::{
    forward::upstream::Where,
    listen::{
        Accepting, Drain, accept,
        quic::{self, AcceptingQuic},
    },
    shed::probe::probe,
    worker::Worker,
};

/// How often workers look for connections to endpoints that have been idle for too long.
const SWEEP: Duration = Duration::from_secs(1);
/// How long a worker that leaves waits for idle clients to ask once more, before it closes their connections.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often a worker that leaves looks whether its connections have ended.
const LOOK: Duration = Duration::from_millis(20);

/// A worker as its owner holds it. Dropping it ends its thread at once.
pub(super) struct Hand {
    pub worker: Arc<Worker>,
    orders: mpsc::UnboundedSender<Order>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What a worker is told.
enum Order {
    Accept(Accepting),
    AcceptQuic(AcceptingQuic),
    /// To end once its connections have.
    Leave(Vec<Drain>),
    /// To say that it is there.
    Answer(oneshot::Sender<()>),
}

/// A worker that ends once its connections have.
pub(super) struct Leaving {
    pub hand: Hand,
    /// Those of its connections, by listener.
    pub drains: Vec<(Name, Drain)>,
}

impl Hand {
    /// Starts a worker.
    pub fn start(index: usize) -> io::Result<Hand> {
        let worker = Worker::new(index);
        let (orders, inbox) = mpsc::unbounded_channel();
        let (stop, stopped) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let ours = worker.clone();
        let thread = std::thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
            runtime.block_on(async move {
                tokio::spawn(ours.clock.clone().run());
                let watched = ours.clone();
                tokio::spawn(probe(ours.rounds.clone(), move |late| watched.probed(late)));
                tokio::spawn(sweep(ours.clone()));
                let rounds = ours.rounds.clone();
                tokio::spawn(async move { rounds.run().await });
                tokio::select! {
                    // An error means that the owner is gone: time to stop as well.
                    _ = stopped => {}
                    () = obey(ours.clone(), inbox) => clear(&ours),
                }
            });
            runtime.shutdown_background();
        })?;
        Ok(Hand { worker, orders, stop: Some(stop), thread: Some(thread) })
    }

    /// Lets it accept. A worker that is gone takes no connections; the others do.
    pub fn accept(&self, accepting: Accepting) {
        let _ = self.orders.send(Order::Accept(accepting));
    }

    /// Lets it accept QUIC connections.
    pub fn accept_quic(&self, accepting: AcceptingQuic) {
        let _ = self.orders.send(Order::AcceptQuic(accepting));
    }

    /// Asks whether it gets round to anything: ready with `Ok` when it does.
    pub fn ask(&self) -> oneshot::Receiver<()> {
        let (answer, answered) = oneshot::channel();
        // Who is gone lets the channel go, and that is an answer too.
        let _ = self.orders.send(Order::Answer(answer));
        answered
    }

    /// Lets it end once its connections have. It must have been told to accept no more.
    pub fn leave(self, drains: Vec<(Name, Drain)>) -> Leaving {
        drains.iter().for_each(|(_, drain)| drain.wind_down());
        // Who is gone need not leave.
        let _ = self.orders.send(Order::Leave(drains.iter().map(|(_, drain)| drain.clone()).collect()));
        Leaving { hand: self, drains }
    }

    /// Has its thread ended?
    pub fn is_gone(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Ends it without waiting for that.
    pub fn stop(&mut self) {
        if let Some(stop) = self.stop.take() {
            // The worker may have stopped already.
            let _ = stop.send(());
        }
    }
}

impl Drop for Hand {
    fn drop(&mut self) {
        self.stop();
        if let Some(thread) = self.thread.take() {
            // A worker that panicked has said so already.
            let _ = thread.join();
        }
    }
}

/// Does as it is told; ends when it has left.
async fn obey(worker: Arc<Worker>, mut inbox: mpsc::UnboundedReceiver<Order>) {
    let accepting = TaskTracker::new();
    while let Some(order) = inbox.recv().await {
        match order {
            Order::Accept(place) => {
                accepting.spawn(accept(place, worker.clone()));
            }
            Order::AcceptQuic(place) => {
                accepting.spawn(quic::accept(place, worker.clone()));
            }
            Order::Answer(answer) => {
                // Whoever asked may have lost patience.
                let _ = answer.send(());
            }
            Order::Leave(drains) => {
                accepting.close();
                accepting.wait().await;
                return last_connections(&worker, &drains).await;
            }
        }
    }
    // The owner is gone, and says so by another way.
    std::future::pending().await
}

/// Waits until all connections have ended, and all requests of our own: somebody at another worker may wait for what
/// they bring. Tunnels may take their time.
async fn last_connections(worker: &Worker, drains: &[Drain]) {
    let end_of_patience = Instant::now() + PATIENCE;
    while worker.connections.load(Relaxed) + worker.detached.load(Relaxed) > 0 {
        if Instant::now() >= end_of_patience {
            drains.iter().for_each(Drain::begin);
        }
        sleep(LOOK).await;
    }
}

/// Closes connections to endpoints that have been idle for too long.
async fn sweep(worker: Arc<Worker>) {
    loop {
        sleep(SWEEP).await;
        let Some(runtime) = worker.runtime() else { continue };
        for upstream in runtime.services.values().flat_map(|service| &service.upstreams) {
            upstream.pools.sweep(worker.index, upstream.pool.idle_timeout);
            if let Where::Name(named, _) = &upstream.target {
                let known = named.known();
                if !known.is_empty() {
                    upstream.pools.keep_only(worker.index, &known);
                }
            }
        }
    }
}

/// Closes all connections to endpoints.
fn clear(worker: &Worker) {
    let Some(runtime) = worker.runtime() else { return };
    for upstream in runtime.services.values().flat_map(|service| &service.upstreams) {
        upstream.pools.clear(worker.index);
    }
}
