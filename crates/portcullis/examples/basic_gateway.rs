//! A gateway in a program: two routes, a limit, CORS and a timeout.
//!
//! ```sh
//! cargo run --example basic_gateway
//! curl -i http://127.0.0.1:8080/api/users/1
//! ```

use std::time::Duration;

use portcullis::Gateway;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), portcullis::Error> {
    let gateway = Gateway::builder()
        .route("/api/users/*", "http://127.0.0.1:8001")
        .route("/api/products/*", "http://127.0.0.1:8002")
        .with_host("127.0.0.1")
        .with_port(8080)
        .with_rate_limit(100)
        .with_cors(true)
        .with_timeout(Duration::from_secs(30))
        .build()
        .await?;
    println!("listening on {:?}", gateway.addresses());
    gateway.serve().await
}
