//! Portcullis as a library: a gateway inside somebody's own program.
//!
//! ```no_run
//! # async fn example() -> Result<(), portcullis::Error> {
//! use portcullis::Gateway;
//!
//! Gateway::builder()
//!     .route("/api/users/*", "http://127.0.0.1:8001")
//!     .route("/api/products/*", "http://127.0.0.1:8002")
//!     .with_port(8080)
//!     .with_rate_limit(100)
//!     .with_cors(true)
//!     .build()
//!     .await?
//!     .serve()
//!     .await
//! # }
//! ```
//!
//! Or from a file, which is then watched and followed: [`GatewayConfig::load`] and [`Gateway::from_config`].
//!
//! The modules are the parts that the binary is made of.

pub mod activation;
pub mod app;
mod builder;
mod certificates;
mod checks;
mod control;
pub mod descriptors;
pub mod explain;
pub mod gateway;
pub mod kinds;
pub mod load;
pub mod logging;
pub mod notify;
pub mod pid_file;
pub mod rehearse;
pub mod reload;
pub mod schema;
pub mod shutdown;
mod stores;
pub mod upgrade;

pub use builder::Builder;
pub use gateway::{Error, Gateway, GatewayConfig};
