//! Several endpoints behind one route: shares by weight, and a health check that takes a failing one out.
//!
//! ```sh
//! cargo run --example load_balancing
//! curl http://127.0.0.1:8080/
//! curl http://127.0.0.1:9090/api/services
//! ```

use portcullis::Gateway;
use serde_json::json;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), portcullis::Error> {
    let gateway = Gateway::builder()
        .with_route(json!({ "path": "/*", "service": "shop" }))
        .with(
            "services",
            json!({
                "shop": {
                    "endpoints": [
                        { "url": "http://127.0.0.1:8001", "weight": 3 },
                        { "url": "http://127.0.0.1:8002", "weight": 1 },
                    ],
                    "strategy": "round_robin",
                    "health_check": { "path": "/health", "interval": "5s", "unhealthy_after": 2 },
                },
            }),
        )
        .with_host("127.0.0.1")
        .with_port(8080)
        .with_admin(([127, 0, 0, 1], 9090).into())
        .build()
        .await?;
    println!("listening on {:?}", gateway.addresses());
    gateway.serve().await
}
