//! A service over HTTP that tools ask: it answers from a script and writes down who asked what.

use serde_json::Value;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// One request to it.
#[derive(Clone, Debug)]
pub struct Asked {
    /// `POST`, ...
    pub method: String,
    /// With its query.
    pub path: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// As it came.
    pub text: String,
    /// `Null` where there is none, or it is no JSON.
    pub body: Value,
}

impl Asked {
    /// The value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }
}

/// Status, body, and how long it takes.
pub type Says = (u16, String, Duration);

type Script = dyn Fn(&Asked) -> Says + Send + Sync;

/// A running service. It ends when dropped.
pub struct Service {
    addr: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    accept: tokio::task::JoinHandle<()>,
}

impl Drop for Service {
    fn drop(&mut self) {
        self.accept.abort();
    }
}

impl Service {
    /// Starts one.
    pub async fn start(script: impl Fn(&Asked) -> Says + Send + Sync + 'static) -> Service {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let (notes, script): (_, Arc<Script>) = (asked.clone(), Arc::new(script));
        let accept = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(serve(socket, notes.clone(), script.clone()));
            }
        });
        Service { addr, asked, accept }
    }

    /// One that answers the same to everybody.
    pub async fn saying(status: u16, body: &str) -> Service {
        let body = body.to_owned();
        Service::start(move |_| (status, body.clone(), Duration::ZERO)).await
    }

    /// `http://127.0.0.1:port`, without a path.
    #[must_use]
    pub fn origin(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Everything it was asked, in order of arrival.
    #[must_use]
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// How often a path was asked, without its query.
    #[must_use]
    pub fn count(&self, path: &str) -> usize {
        self.asked().iter().filter(|a| a.path.split('?').next() == Some(path)).count()
    }
}

/// One request for each connection.
async fn serve(mut socket: TcpStream, notes: Arc<Mutex<Vec<Asked>>>, script: Arc<Script>) {
    let Some(asked) = read(&mut socket).await else { return };
    notes.lock().unwrap().push(asked.clone());
    let (status, body, delay) = script(&asked);
    tokio::time::sleep(delay).await;
    let head = format!(
        "HTTP/1.1 {status} Said\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let _ = socket.write_all((head + &body).as_bytes()).await;
    let _ = socket.shutdown().await;
}

async fn read(socket: &mut TcpStream) -> Option<Asked> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            break end;
        }
        if socket.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut lines = head.lines();
    let mut first = lines.next()?.split(' ');
    let (method, path) = (first.next()?.to_owned(), first.next()?.to_owned());
    let headers: Vec<(String, String)> = lines
        .filter_map(|l| l.split_once(':'))
        .map(|(n, v)| (n.to_lowercase(), v.trim().to_owned()))
        .collect();
    let length = headers.iter().find(|(n, _)| n == "content-length").map_or(0, |(_, v)| v.parse().unwrap());
    while bytes.len() < end + 4 + length {
        if socket.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    let text = String::from_utf8_lossy(&bytes[end + 4..]).into_owned();
    let body = serde_json::from_str(&text).unwrap_or(Value::Null);
    Some(Asked { method, path, headers, text, body })
}
