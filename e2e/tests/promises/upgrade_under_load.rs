//! Twenty upgrades of the binary while requests of all kinds run, with more and fewer workers from one to the next: no
//! request fails, nobody who waits to be let in is lost, and in the end all old processes have gone.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use portcullis_e2e::{
    Client, Endpoint, Lineage, RawClient, Setup, Version, bounded,
    client::{Body, Problem, empty, streamed},
    endpoint::text,
    gateway::{binary, install},
    lineage,
    wait::LONG,
    within,
};
use tokio::task::JoinHandle;

const UPGRADES: usize = 20;
const UPLOAD: usize = 200_000;
const ONCE: &str = "GET /once HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

/// What clients do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Many requests over one connection.
    Stay(Version),
    /// A connection for each request.
    Once,
    /// A body that takes its time.
    Upload(Version),
}

const KINDS: [Kind; 5] = [
    Kind::Stay(Version::H1),
    Kind::Stay(Version::H2),
    Kind::Once,
    Kind::Upload(Version::H1),
    Kind::Upload(Version::H2),
];

struct Load {
    stop: Arc<AtomicBool>,
    served: Arc<[AtomicUsize; KINDS.len()]>,
    tasks: Vec<JoinHandle<()>>,
}

impl Load {
    fn start(addr: SocketAddr, each: usize) -> Load {
        let (stop, served) = (Arc::<AtomicBool>::default(), Arc::<[AtomicUsize; KINDS.len()]>::default());
        let client = |kind: usize| {
            let (stop, served) = (stop.clone(), served.clone());
            tokio::spawn(async move {
                let mut client = None;
                while !stop.load(SeqCst) {
                    if ask(KINDS[kind], addr, &mut client).await {
                        served[kind].fetch_add(1, SeqCst);
                    }
                    // Leave the two cores something for the upgrades.
                    tokio::time::sleep(Duration::from_millis(3)).await;
                }
            })
        };
        let tasks = (0..each * KINDS.len()).map(|n| client(n % KINDS.len())).collect();
        Load { stop, served, tasks }
    }

    async fn end(self) -> Vec<usize> {
        self.stop.store(true, SeqCst);
        for task in self.tasks {
            bounded(LONG, "the load to end", task).await.expect("no request failed");
        }
        self.served.iter().map(|served| served.load(SeqCst)).collect()
    }
}

/// One request, unless the gateway said before it took it that it takes no more here; over the connection that is there if it has not been closed in an orderly way.
async fn ask(kind: Kind, addr: SocketAddr, client: &mut Option<Client>) -> bool {
    let version = match kind {
        Kind::Once => {
            let reply = RawClient::ask(addr, ONCE).await;
            assert_eq!((reply.status, reply.text().as_str()), (200, "0"), "{}", reply.head);
            return true;
        }
        Kind::Stay(version) | Kind::Upload(version) => version,
    };
    let mut open = match client.take().filter(|client| !client.is_closed()) {
        Some(client) => client,
        None => Client::plain(version, addr).await,
    };
    let upload = matches!(kind, Kind::Upload(_));
    let (body, feeding) = if upload {
        let (mut sender, body) = streamed();
        let feeding = tokio::spawn(async move {
            for _ in 0..10 {
                if sender.send_data(vec![b'u'; UPLOAD / 10].into()).await.is_err() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        (body, Some(feeding))
    } else {
        (empty(), None)
    };
    let request = Request::post("/work").body(body).unwrap();
    let reply = match bounded(LONG, "an answer", open.try_fetch(request)).await {
        Ok(reply) => reply,
        // Crossed by a GOAWAY: not processed (RFC 9113 section 6.8). What the endpoint has counted proves it.
        Err(error) if was_not_taken(&error) => {
            if let Some(feeding) = feeding {
                feeding.abort();
            }
            return false;
        }
        Err(error) => panic!("{kind:?}: {error:?}"),
    };
    let expected = if upload { UPLOAD } else { 0 };
    assert_eq!((reply.status, reply.text()), (200, expected.to_string()), "{kind:?}");
    if let Some(feeding) = feeding {
        feeding.await.expect("the body was sent");
    }
    *client = Some(open);
    true
}

/// Did the connection end in an orderly way before the request was sent? Any client then sends it over another one.
fn was_not_taken(error: &anyhow::Error) -> bool {
    // Canceled: hyper gave the request back. Closed: the connection had ended before it was handed over.
    let is_unsent = |error: &hyper::Error| error.is_canceled() || error.is_closed();
    if error.chain().filter_map(|cause| cause.downcast_ref::<hyper::Error>()).any(is_unsent) {
        return true;
    }
    let mut causes = error.chain().filter_map(|cause| cause.downcast_ref::<h2::Error>());
    causes
        .any(|cause| cause.is_go_away() && cause.is_remote() && cause.reason() == Some(h2::Reason::NO_ERROR))
}

/// How long the body was.
async fn answer(request: Request<Incoming>) -> Result<Response<Body>, Problem> {
    let body = request.into_body().collect().await?.to_bytes();
    Ok(text(200, &body.len().to_string()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_fails() {
    let counted = Arc::<AtomicUsize>::default();
    let count = counted.clone();
    let counting = Endpoint::start(move |request| {
        count.fetch_add(1, SeqCst);
        answer(request)
    })
    .await;
    let configuration = crate::one("");
    let setup = Setup::new(&configuration).top("workers = 2").set("app", counting.url());
    let program = setup.dir().join("portcullis-installed");
    install(&binary(), &program);
    let mut gateway = setup.called(&program).start().await;
    let mut lineage = Lineage::default();
    let load = Load::start(gateway.addr(), 3);
    let mut pids = vec![gateway.pid()];
    for round in 0..UPGRADES {
        // The old process may follow the file before it hands over, or not any more.
        let workers = [3, 1, 2][round % 3];
        let configuration = gateway.render(&configuration);
        std::fs::write(&gateway.config, format!("workers = {workers}\n{configuration}")).unwrap();
        let reply = gateway.admin_post("/upgrade").await;
        pids.push(lineage.follow_reply(&reply));
        // So that every kind of load meets every upgrade, also on a machine that upgrades quickly.
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    let served = load.end().await;
    assert!(served.iter().all(|served| *served >= UPGRADES), "there was load of every kind: {served:?}");
    assert_eq!(counted.load(SeqCst), served.iter().sum::<usize>(), "each was sent once: {served:?}");
    let (last, old) = pids.split_last().unwrap();
    within(LONG, "the old processes to end", || async { !old.iter().any(|pid| lineage::runs(*pid)) }).await;
    assert!(lineage::runs(*last));
    let page = gateway.metrics().await;
    assert_eq!(page.sum("gateway_upgrades_total", &[("result", "success")]), UPGRADES as f64);
    assert_eq!(page.sum("gateway_upgrades_total", &[("result", "failure")]), 0.0);
}
