//! As much of HTTP/1.1 as a load generator and a mock need: one message off a socket, whatever its framing.

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// What has been read from a socket and not been used.
#[derive(Default)]
pub(crate) struct Inbox {
    buffer: Vec<u8>,
}

/// The value of a header of a head.
pub(crate) fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.split("\r\n")
        .filter_map(|l| l.split_once(':'))
        .find(|(n, _)| n.eq_ignore_ascii_case(name))
        .map(|(_, v)| v.trim())
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|w| w == part)
}

impl Inbox {
    /// Head and body of the next message; `None` when the peer closed between two.
    pub(crate) async fn message(
        &mut self,
        socket: &mut (impl AsyncRead + Unpin),
    ) -> std::io::Result<Option<(String, Vec<u8>)>> {
        let Some(head) = self.head(socket).await? else { return Ok(None) };
        let mut body = Vec::new();
        self.body(socket, &head, |piece| body.extend_from_slice(piece)).await?;
        Ok(Some((head, body)))
    }

    /// The head of the next message.
    pub(crate) async fn head(
        &mut self,
        socket: &mut (impl AsyncRead + Unpin),
    ) -> std::io::Result<Option<String>> {
        loop {
            if let Some(end) = find(&self.buffer, b"\r\n\r\n") {
                let rest = self.buffer.split_off(end.saturating_add(4));
                let head = std::mem::replace(&mut self.buffer, rest);
                return Ok(Some(String::from_utf8_lossy(&head).into_owned()));
            }
            if self.fill(socket).await? == 0 {
                return if self.buffer.is_empty() {
                    Ok(None)
                } else {
                    Err(std::io::ErrorKind::UnexpectedEof.into())
                };
            }
        }
    }

    /// The body that follows this head, piece by piece.
    pub(crate) async fn body(
        &mut self,
        socket: &mut (impl AsyncRead + Unpin),
        head: &str,
        mut take: impl FnMut(&[u8]),
    ) -> std::io::Result<()> {
        if header(head, "transfer-encoding").is_some() {
            loop {
                while find(&self.buffer, b"\r\n").is_none() {
                    self.more(socket).await?;
                }
                let end = find(&self.buffer, b"\r\n").unwrap_or_default();
                let digits = String::from_utf8_lossy(self.buffer.get(..end).unwrap_or_default()).into_owned();
                let size = usize::from_str_radix(digits.trim(), 16).map_err(std::io::Error::other)?;
                self.buffer.drain(..end.saturating_add(2));
                self.exactly(socket, size, &mut take).await?;
                self.exactly(socket, 2, &mut |_| {}).await?;
                if size == 0 {
                    return Ok(());
                }
            }
        }
        let length = header(head, "content-length").and_then(|v| v.parse().ok()).unwrap_or(0);
        self.exactly(socket, length, &mut take).await
    }

    async fn exactly(
        &mut self,
        socket: &mut (impl AsyncRead + Unpin),
        length: usize,
        take: &mut impl FnMut(&[u8]),
    ) -> std::io::Result<()> {
        while self.buffer.len() < length {
            self.more(socket).await?;
        }
        let rest = self.buffer.split_off(length);
        take(&std::mem::replace(&mut self.buffer, rest));
        Ok(())
    }

    async fn more(&mut self, socket: &mut (impl AsyncRead + Unpin)) -> std::io::Result<()> {
        match self.fill(socket).await? {
            0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    async fn fill(&mut self, socket: &mut (impl AsyncRead + Unpin)) -> std::io::Result<usize> {
        self.buffer.reserve(8 * 1024);
        socket.read_buf(&mut self.buffer).await
    }
}
