//! Health of endpoints: passive, from real requests.

pub mod passive;
