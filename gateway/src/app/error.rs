//! Why a server does not start, told so that it can be mended.

use std::net::SocketAddr;
use std::path::PathBuf;
use types::Diagnostic;

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration is wrong; the problems are rendered with their lines.
    #[error("the configuration has errors:\n\n{report}")]
    Configuration {
        /// Every problem.
        problems: Vec<Diagnostic>,
        /// As a person reads them.
        report: String,
    },
    /// The address is none.
    #[error("`{0}` is no address to listen on; expected address:port, such as 127.0.0.1:8080")]
    Address(String),
    /// Nothing asks for keys, so only this machine may connect.
    #[error(
        "{0} can be reached from other machines, and nothing asks for a key; make one first on 127.0.0.1 with \
         `turnout key create`, or add --insecure-open if the network itself keeps strangers out"
    )]
    Open(SocketAddr),
    /// The control API is for this machine.
    #[error(
        "{0} can be reached from other machines; the control API is served on loopback only: set admin.listen to \
         127.0.0.1:PORT, and reach it from elsewhere through a tunnel"
    )]
    AdminOpen(SocketAddr),
    /// What the control plane keeps cannot be used.
    #[error("the control plane does not open: {0}")]
    Control(String),
    /// What webhooks need cannot be used.
    #[error("webhooks cannot be sent: {0}")]
    Webhooks(String),
    /// What tools and checks over HTTP need cannot be used.
    #[error("services cannot be asked: {0}")]
    Services(String),
    /// The address cannot be taken.
    #[error("cannot listen on {addr}: {source}{}", hint(.source))]
    Listen {
        /// The address.
        addr: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The data folder cannot be used.
    #[error("cannot use the data folder {}: {source}", .folder.display())]
    Data {
        /// The folder.
        folder: PathBuf,
        /// Why.
        source: types::store::Error,
    },
}

fn hint(e: &std::io::Error) -> &'static str {
    match e.kind() {
        std::io::ErrorKind::AddrInUse => {
            "; another program listens there: stop it, or choose another port with --listen 127.0.0.1:0"
        }
        _ => "",
    }
}
