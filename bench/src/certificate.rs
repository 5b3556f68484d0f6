//! The certificate that every proxy shows, made for each run: ECDSA P-256, signed by itself.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use anyhow::Result;

/// Its files, all PEM.
#[derive(Debug, Clone)]
pub struct Certificate {
    /// The certificate.
    pub chain: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Both in one, as HAProxy wants them.
    pub both: PathBuf,
}

impl Certificate {
    /// Makes one. It is for the address too, since wrk and h2load, given an address, name no host in the handshake.
    pub fn make(dir: &Path) -> Result<Certificate> {
        let names = ["bench.example".to_owned(), "127.0.0.1".to_owned()];
        let made = rcgen::generate_simple_self_signed(names)?;
        let (chain, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        let out =
            Certificate { chain: dir.join("cert.pem"), key: dir.join("key.pem"), both: dir.join("both.pem") };
        fs::write(&out.both, format!("{chain}{key}"))?;
        fs::write(&out.chain, chain)?;
        fs::write(&out.key, key)?;
        for file in [&out.key, &out.both] {
            fs::set_permissions(file, fs::Permissions::from_mode(0o600))?;
        }
        Ok(out)
    }
}
