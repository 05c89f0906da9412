//! Where a server listens, and how the commands of this program learn of it.

use super::Error;
use super::settings::{DEFAULT_LISTEN, Settings};
use crate::config::server::{NOT_SERVED, Server, address};
use std::net::SocketAddr;
use std::path::Path;
use tokio::net::{TcpListener, TcpSocket};

pub(super) async fn listen(settings: &Settings, server: &Server) -> Result<TcpListener, Error> {
    let text = settings.listen.as_deref().or(server.listen.as_deref()).unwrap_or(DEFAULT_LISTEN);
    let addr = address(text).ok_or_else(|| Error::Address(text.to_owned()))?;
    bind(addr, server.stream.buffer_bytes).map_err(|source| Error::Listen { addr, source })
}

/// A listener whose connections hold `buffer` bytes in the system towards a client who does not read. Left to itself it
/// takes megabytes, and a slow client is noticed that much later.
fn bind(addr: SocketAddr, buffer: usize) -> std::io::Result<TcpListener> {
    /// Connections that wait to be taken.
    const BACKLOG: u32 = 1_024;
    let socket = if addr.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // As tokio does: a port can be taken again at once.
    socket.set_reuseaddr(true)?;
    socket.set_send_buffer_size(u32::try_from(buffer).unwrap_or(u32::MAX))?;
    socket.bind(addr)?;
    socket.listen(BACKLOG)
}

/// Where the control API listens: its own address, loopback unless it is named.
pub(super) async fn admin_listener(
    settings: &Settings,
    server: &Server,
    main: SocketAddr,
) -> Result<Option<TcpListener>, Error> {
    let named = settings.admin.as_deref().or(server.admin.as_deref());
    let Some(text) = named else {
        // Beside the main port, or wherever there is room.
        let port = main.port().checked_add(1).unwrap_or(0);
        let port = if settings.listen.as_deref().is_some_and(|l| l.ends_with(":0")) { 0 } else { port };
        let beside = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], port))).await;
        let bound = match beside {
            Ok(listener) => Ok(listener),
            Err(_) => TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await,
        };
        return bound.map(Some).map_err(|source| Error::Listen { addr: ([127, 0, 0, 1], 0).into(), source });
    };
    if text == NOT_SERVED {
        return Ok(None);
    }
    let addr = address(text).ok_or_else(|| Error::Address(text.to_owned()))?;
    if !addr.ip().is_loopback() {
        return Err(Error::AdminOpen(addr));
    }
    TcpListener::bind(addr).await.map(Some).map_err(|source| Error::Listen { addr, source })
}

/// Lets the commands of this program find the server that uses a data folder.
pub(super) fn tell_address(folder: &Path, file: &str, addr: SocketAddr) {
    if let Err(e) = std::fs::write(folder.join(file), format!("{addr}\n")) {
        tracing::warn!(error = %e, "cannot note the address in the data folder; `turnout explain` will need --listen");
    }
}
