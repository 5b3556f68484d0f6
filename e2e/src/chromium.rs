//! A real browser: Debian's `chromium-headless-shell`, which is Chromium without its windows. `scripts/test` installs it;
//! without it the tests fail.

use std::{
    fs::{File, read_to_string},
    net::SocketAddr,
    process::{Child, Command, Stdio},
};

use rcgen::{KeyPair, PublicKeyData};

use crate::{
    certs::Pair,
    wait::{LONG, within},
};

/// It ends with whoever waits for it.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Loads a page of `https://name` at this address to its end, and tells the document as its scripts have left it.
///
/// The certificate is believed by its key. A browser takes HTTP/3 only with certificates that lead to an authority it was
/// built with, unless told that it must speak QUIC to the name: it is told so of another port, so that to this one it
/// speaks what it learns.
pub async fn document(addr: SocketAddr, name: &str, pair: &Pair, path: &str) -> String {
    let profile = tempfile::tempdir().expect("a temporary folder");
    let [page, said] = ["page", "said"].map(|file| profile.path().join(file));
    let port = addr.port();
    let mut command = Command::new("chromium-headless-shell");
    command
        .args(["--no-sandbox", "--disable-gpu", "--no-proxy-server", "--dump-dom"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(format!("--host-resolver-rules=MAP {name} {}", addr.ip()))
        .arg(format!("--ignore-certificate-errors-spki-list={}", key_hash(pair)))
        .arg(format!("--origin-to-force-quic-on={name}:{}", if port == 1 { 2 } else { 1 }))
        .arg(format!("https://{name}:{port}{path}"))
        .stdin(Stdio::null())
        .stdout(File::create(&page).expect("a file"))
        .stderr(File::create(&said).expect("a file"));
    let mut running = Running(command.spawn().unwrap_or_else(|error| {
        panic!("chromium-headless-shell: {error} (Debian package of that name; scripts/test installs it)")
    }));
    let mut status = None;
    within(LONG * 2, "Chromium to end", || {
        status = running.0.try_wait().expect("a child");
        std::future::ready(status.is_some())
    })
    .await;
    let said = read_to_string(said).unwrap_or_default();
    assert!(status.is_some_and(|status| status.success()), "Chromium ended with {status:?}: {said}");
    read_to_string(page).expect("a document")
}

/// The SHA-256 of a key as certificates have it, in base64.
fn key_hash(pair: &Pair) -> String {
    let key = KeyPair::from_pem(&pair.key).expect("a key");
    let hash = ring::digest::digest(&ring::digest::SHA256, &key.subject_public_key_info());
    base64(hash.as_ref())
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let bits = (0..3).fold(0_u32, |bits, at| bits << 8 | u32::from(chunk.get(at).copied().unwrap_or(0)));
        for digit in 0..4 {
            let index = (bits >> (18 - 6 * digit)) & 0x3f;
            out.push(if digit > chunk.len() { '=' } else { char::from(DIGITS[index as usize]) });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #[test]
    fn base64_is_filled_up() {
        for (text, expected) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")]
        {
            assert_eq!(super::base64(text.as_bytes()), expected);
        }
    }
}
