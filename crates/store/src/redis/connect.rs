//! A new connection: TCP, Unix socket or TLS, then who we are, then a question that must be answered in time.

use std::io;

use portcullis_config::model::EndpointAddress;
use redis::{
    AsyncConnectionConfig, Cmd, ErrorKind, RedisConnectionInfo, RedisError, ServerErrorKind, Value,
    aio::MultiplexedConnection,
};
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
    task::JoinHandle,
    time::timeout,
};
use tokio_rustls::TlsConnector;

use super::{
    Shared,
    link::{Live, ask},
    scripts::{GONE, Known, PUT, TAKE},
};

/// Commands that may wait to be written. More wait outside.
const QUEUE: usize = 1024;

/// What helps a user who may not do enough.
pub(super) const RIGHTS: &str = " (the rights that its user needs stand in docs/stores.md)";
const NO_TLS: &str = " (if it does not speak TLS there, write redis://)";

/// Any byte stream.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Stream for T {}

/// Connects. The second part is ready when the connection has ended; dropping it ends the connection.
///
/// # Errors
/// Why there is none, for the log. Holds no secret.
pub(super) async fn connect(shared: &Shared) -> Result<(Live, Driver), String> {
    let settings = &shared.settings;
    let patience = settings.connect_timeout;
    let too_long = |_| format!("connecting took longer than {patience:?}");
    let stream =
        timeout(patience, stream(shared)).await.map_err(too_long)?.map_err(|error| error.to_string())?;
    let no_tls = |_| format!("no answer by TLS within {patience:?}{NO_TLS}");
    let stream = timeout(patience, secured(shared, stream)).await.map_err(no_tls)??;
    let config = AsyncConnectionConfig::new()
        .set_response_timeout(Some(settings.timeout))
        .set_pipeline_buffer_size(QUEUE);
    let info = info(shared);
    let greeting = MultiplexedConnection::new_with_config(&info, stream, config);
    let greeted = timeout(patience, greeting).await.map_err(too_long)?;
    let (mut connection, driver) = greeted.map_err(|error| said(&error, shared))?;
    let driver = Driver(tokio::spawn(driver));
    ping(&mut connection, shared).await?;
    let take = known(&mut connection, TAKE).await;
    let put = known(&mut connection, PUT).await;
    let gone = known(&mut connection, GONE).await;
    Ok((Live { connection, take, put, gone }, driver))
}

async fn stream(shared: &Shared) -> io::Result<Box<dyn Stream>> {
    let (host, port) = match &shared.settings.address {
        EndpointAddress::Unix(path) => return Ok(Box::new(UnixStream::connect(path).await?)),
        EndpointAddress::Tcp { host, port } => (&**host, *port),
    };
    let stream = TcpStream::connect((host, port)).await?;
    stream.set_nodelay(true)?;
    Ok(Box::new(stream))
}

/// The same by TLS, where it is wanted.
async fn secured(shared: &Shared, stream: Box<dyn Stream>) -> Result<Box<dyn Stream>, String> {
    let (Some(config), EndpointAddress::Tcp { host, .. }) = (&shared.tls, &shared.settings.address) else {
        return Ok(stream);
    };
    let named = shared.settings.tls.as_ref().and_then(|tls| tls.server_name.as_deref()).unwrap_or(host);
    let name = ServerName::try_from(named.to_owned()).map_err(|error| error.to_string())?;
    match TlsConnector::from(config.clone()).connect(name, stream).await {
        Ok(stream) => Ok(Box::new(stream)),
        Err(error) => Err(tls_said(&error)),
    }
}

fn info(shared: &Shared) -> RedisConnectionInfo {
    let settings = &shared.settings;
    let mut info = RedisConnectionInfo::default().set_db(settings.database.into()).set_skip_set_lib_name();
    if let Some(username) = &settings.username {
        info = info.set_username(username);
    }
    if let Some(password) = &settings.password {
        info = info.set_password(password);
    }
    info
}

/// A server that takes connections but does not answer in time is no use.
async fn ping(connection: &mut MultiplexedConnection, shared: &Shared) -> Result<(), String> {
    match ask(connection, Cmd::new().arg("PING")).await {
        Ok(_) => Ok(()),
        Err(error) if error.is_timeout() => {
            Err(format!("it did not answer within {:?}", shared.settings.timeout))
        }
        Err(error) => Err(said(&error, shared)),
    }
}

/// Gives a script to the server. One that will not have it is sent the text each time.
async fn known(connection: &mut MultiplexedConnection, text: &'static str) -> Known {
    let sha = match ask(connection, Cmd::new().arg("SCRIPT").arg("LOAD").arg(text)).await {
        Ok(Value::BulkString(sha)) => String::from_utf8(sha).ok(),
        Ok(Value::SimpleString(sha)) => Some(sha),
        _ => None,
    };
    Known { text, sha }
}

/// What the server said, and what is likely to help.
fn said(error: &RedisError, shared: &Shared) -> String {
    let text = error.to_string();
    let holds =
        |what: &str| text.contains(what) || error.detail().is_some_and(|detail| detail.contains(what));
    let advice = if error.kind() == ErrorKind::AuthenticationFailed {
        " (wrong user or password)"
    } else if holds("NOAUTH") || holds("NoAuth") {
        " (it wants a password: write `password`)"
    } else if error.kind() == ErrorKind::Server(ServerErrorKind::NoPerm) {
        RIGHTS
    } else if shared.tls.is_none() && (error.is_io_error() || error.is_connection_dropped()) {
        " (if it speaks TLS there, write rediss://)"
    } else {
        ""
    };
    format!("{text}{advice}")
}

/// Why there is no stream, and what is likely to help.
fn tls_said(error: &io::Error) -> String {
    let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) else {
        return error.to_string();
    };
    match tls {
        rustls::Error::InvalidCertificate(_) => {
            format!("{tls} (name the authority that signed its certificate in `tls.ca`)")
        }
        rustls::Error::InvalidMessage(_) => format!("{tls}{NO_TLS}"),
        _ => tls.to_string(),
    }
}

/// What reads and writes the connection; ready when that has ended.
pub(super) struct Driver(JoinHandle<()>);

impl Future for Driver {
    type Output = ();

    fn poll(mut self: std::pin::Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> std::task::Poll<()> {
        std::pin::Pin::new(&mut self.0).poll(cx).map(|_| ())
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}
