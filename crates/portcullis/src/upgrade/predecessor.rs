//! An upgrade as the new process sees it: what it is given, and whom it tells that it is ready.

use std::{
    fs::File,
    io,
    os::{fd::AsFd, unix::net::UnixStream},
    sync::Arc,
    time::Duration,
};

use portcullis_proxy::Inherited;

use super::wire::{self, Answer, Estate};

/// Set when standard input is the socket to the process before this one.
pub const VARIABLE: &str = "PORTCULLIS_UPGRADE";
/// How long the old process may take to send what it hands over: it does so at once.
const PATIENCE: Duration = Duration::from_secs(10);

/// The process before this one, which serves until we are ready.
#[derive(Debug)]
pub struct Predecessor {
    stream: UnixStream,
}

/// What comes from outside at the start.
#[derive(Debug, Default)]
pub struct Heritage {
    /// Listening sockets.
    pub sockets: Vec<Inherited>,
    /// What the process before this one knew.
    pub estate: Estate,
}

impl Predecessor {
    /// The process before this one and what it hands over, if this is an upgrade.
    ///
    /// # Errors
    /// It hands over nothing that could be understood.
    pub fn find() -> io::Result<Option<(Predecessor, Heritage)>> {
        if std::env::var_os(VARIABLE).is_none() {
            return Ok(None);
        }
        // A socket of our own, and nothing at standard input, as with any other service.
        let mut stream = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
        rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let (estate, sockets) = wire::receive(&mut stream)?;
        Ok(Some((Predecessor { stream }, Heritage { sockets, estate })))
    }

    /// Tells that we serve, with the sockets of these listeners of its own.
    ///
    /// # Errors
    /// It is not there any more, or does not want us any longer.
    pub fn ready(mut self, taken: Vec<Arc<str>>) -> io::Result<()> {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        wire::answer(&mut self.stream, &Answer::Ready { version, taken })
    }

    /// Tells why we do not.
    pub fn failed(mut self, why: &str) {
        // If it does not listen, our end tells the same.
        let _ = wire::answer(&mut self.stream, &Answer::Failed(why.to_owned()));
    }
}
