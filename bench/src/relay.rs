//! A raw TCP relay: bytes in, bytes out, nothing looked at. What it costs per request is two receives and two
//! sends of the kernel plus waking up; no proxy on the same runtime comes below it, so it is the floor.

use std::net::SocketAddr;

use anyhow::Result;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
};

/// Relays until the process is stopped: each connection to the next of `to`.
pub fn run(listen: SocketAddr, to: Vec<SocketAddr>) -> Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let listener = crate::endpoint::bind(listen)?;
        for address in to.iter().cycle() {
            let (client, _) = listener.accept().await?;
            tokio::spawn(relay(client, *address));
        }
        Ok(())
    })
}

async fn relay(mut client: TcpStream, to: SocketAddr) -> std::io::Result<()> {
    client.set_nodelay(true)?;
    let mut endpoint = TcpStream::connect(to).await?;
    endpoint.set_nodelay(true)?;
    let (client_in, client_out) = client.split();
    let (endpoint_in, endpoint_out) = endpoint.split();
    let (up, down) = tokio::join!(pump(client_in, endpoint_out), pump(endpoint_in, client_out));
    up.and(down)
}

/// Copies one direction to its end and closes the other side's.
async fn pump(mut from: ReadHalf<'_>, mut to: WriteHalf<'_>) -> std::io::Result<()> {
    // Half of it on a small message costs nothing, and a large body takes few calls.
    let mut buffer = vec![0; 32 << 10];
    loop {
        let n = from.read(&mut buffer).await?;
        if n == 0 {
            return to.shutdown().await;
        }
        to.write_all(buffer.get(..n).unwrap_or_default()).await?;
    }
}
