//! 1,000 keep-alive connections at once, each used again and again.

use portcullis_e2e::{Client, Endpoint, Setup, Version};

async fn thousand(version: Version) {
    let endpoint = Endpoint::named("a").await;
    let gateway = Setup::new(&crate::one("")).set("app", endpoint.url()).start().await;
    let mut clients = Vec::new();
    for _ in 0..1000 {
        clients.push(Client::plain(version, gateway.addr()).await);
    }
    for round in 0..3 {
        let mut asked = Vec::new();
        for mut client in clients.drain(..) {
            asked.push(tokio::spawn(async move {
                let reply = client.get("/").await;
                (client, reply.status)
            }));
        }
        for asked in asked {
            let (client, status) = asked.await.unwrap();
            assert_eq!(status, 200, "round {round}");
            assert!(!client.is_closed(), "kept alive");
            clients.push(client);
        }
    }
    assert_eq!(endpoint.count(), 3000);
    let open = gateway.metrics().await.sum("gateway_connections_open", &[("listener", "web")]);
    assert!(open >= 1000.0, "the metrics know of them");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_over_http_1() {
    thousand(Version::H1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_over_http_2() {
    thousand(Version::H2).await;
}
