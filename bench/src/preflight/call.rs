//! The same check over HTTP/2 without TLS, for calls as gRPC makes them.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use h2::client::SendRequest;
use http::{HeaderMap, Request};

use super::Answer;
use crate::endpoint::grpc;

/// Makes calls, one after the other over one connection; answers them with their bodies as text.
pub fn exchange(address: SocketAddr, paths: &[&str]) -> Result<Vec<Answer>> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        tokio::time::timeout(Duration::from_secs(10), calls(address, paths))
            .await
            .context("no answer in time")?
    })
}

async fn calls(address: SocketAddr, paths: &[&str]) -> Result<Vec<Answer>> {
    let stream = tokio::net::TcpStream::connect(address).await?;
    let (mut client, connection) = h2::client::handshake(stream).await?;
    tokio::spawn(connection);
    let mut out = Vec::new();
    for path in paths {
        client = client.ready().await?;
        out.push(call(&mut client, path).await.with_context(|| format!("POST {path}"))?);
    }
    Ok(out)
}

async fn call(client: &mut SendRequest<Bytes>, path: &str) -> Result<Answer> {
    let request = Request::post(format!("http://bench.example{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())?;
    let (answer, mut body) = client.send_request(request, false)?;
    body.send_data(Bytes::from(grpc::message()), true)?;
    let (head, mut body) = answer.await?.into_parts();
    let mut text = Vec::new();
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        text.extend_from_slice(&data);
    }
    let trailers = body.trailers().await?.unwrap_or_default();
    let status = trailers.get("grpc-status").map(|v| v.as_bytes());
    ensure!(status == Some(b"0"), "the trailer grpc-status did not come: {trailers:?}");
    Ok(Answer {
        head: format!("HTTP/2 {}\r\n{}", head.status.as_u16(), lines(&head.headers)),
        body: String::from_utf8_lossy(&text).into_owned(),
    })
}

/// Fields as lines of a head.
pub fn lines(fields: &HeaderMap) -> String {
    fields
        .iter()
        .map(|(name, value)| format!("{name}: {}\r\n", String::from_utf8_lossy(value.as_bytes())))
        .collect()
}
