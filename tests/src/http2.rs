//! A raw HTTP/2 client: it gives streams the windows it is told to and reads frames as they come.

use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// No test waits longer than this for a frame.
const PATIENCE: Duration = Duration::from_secs(90);

/// Types of frames.
pub const DATA: u8 = 0;
/// A stream is reset.
pub const RESET: u8 = 3;
/// The flag of the last frame of a stream, among [`DATA`] and headers.
pub const END: u8 = 1;

const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW: u8 = 8;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
const INITIAL_WINDOW: u16 = 4;

/// A connection.
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// What came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Its type.
    pub kind: u8,
    /// Its flags.
    pub flags: u8,
    /// The stream, 0 for the connection itself.
    pub stream: u32,
    /// What it carries.
    pub payload: Vec<u8>,
}

impl Connection {
    /// Connects; every stream begins with a window of so many bytes for its answer.
    pub async fn open(addr: SocketAddr, window: u32) -> Connection {
        let stream = TcpStream::connect(addr).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let mut me = Connection { stream, buffer: Vec::new() };
        me.stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        let mut settings = INITIAL_WINDOW.to_be_bytes().to_vec();
        settings.extend(window.to_be_bytes());
        me.send(SETTINGS, 0, 0, &settings).await;
        me
    }

    /// Sends a JSON body of one frame as a request of that stream.
    pub async fn post(&mut self, stream: u32, path: &str, body: &str) {
        let mut head = Vec::new();
        for (name, value) in [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", path),
            (":authority", "127.0.0.1"),
            ("content-type", "application/json"),
        ] {
            // A literal without a table.
            head.push(0);
            for text in [name, value] {
                head.push(u8::try_from(text.len()).ok().filter(|n| *n < 127).expect("a short text"));
                head.extend(text.as_bytes());
            }
        }
        self.send(HEADERS, END_HEADERS, stream, &head).await;
        self.send(DATA, END, stream, body.as_bytes()).await;
    }

    /// Takes so many bytes more of a stream.
    pub async fn widen(&mut self, stream: u32, bytes: u32) {
        self.send(WINDOW, 0, stream, &bytes.to_be_bytes()).await;
    }

    /// The next frame that is of an answer, or ends one; settings and pings are answered. `None`: the peer has closed.
    pub async fn next(&mut self) -> Option<Frame> {
        tokio::time::timeout(PATIENCE, self.of_an_answer()).await.expect("no frame within 90 s")
    }

    async fn of_an_answer(&mut self) -> Option<Frame> {
        loop {
            let frame = self.read().await?;
            match frame.kind {
                SETTINGS | PING if frame.flags & ACK != 0 => {}
                SETTINGS => self.send(SETTINGS, ACK, 0, &[]).await,
                PING => self.send(PING, ACK, 0, &frame.payload).await,
                WINDOW => {}
                _ => return Some(frame),
            }
        }
    }

    async fn read(&mut self) -> Option<Frame> {
        const HEAD: usize = 9;
        loop {
            if let [a, b, c, kind, flags, s @ ..] = &self.buffer[..]
                && let Some((s, rest)) = s.split_first_chunk::<4>()
            {
                let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
                if rest.len() >= length {
                    let (kind, flags) = (*kind, *flags);
                    let stream = u32::from_be_bytes(*s) & 0x7fff_ffff;
                    let payload = rest[..length].to_vec();
                    self.buffer.drain(..HEAD + length);
                    return Some(Frame { kind, flags, stream, payload });
                }
            }
            match self.stream.read_buf(&mut self.buffer).await {
                Ok(n) if n > 0 => {}
                _ => return None,
            }
        }
    }

    /// A peer that has closed is no error here; reading shows it.
    async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut frame = length[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        let _ = self.stream.write_all(&frame).await;
    }
}
