//! The body of an answer: one piece, as most are, without a box around it, or whatever a route makes.

use axum::body::Body;
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use std::pin::Pin;
use std::task::{Context, Poll};

/// See the module.
#[derive(Debug)]
pub(crate) enum Payload {
    /// One piece; `None` once it has been taken.
    Whole(Option<Bytes>),
    /// Anything else.
    Other(Body),
}

impl From<Body> for Payload {
    fn from(body: Body) -> Self {
        Payload::Other(body)
    }
}

impl From<Bytes> for Payload {
    fn from(bytes: Bytes) -> Self {
        Payload::Whole((!bytes.is_empty()).then_some(bytes))
    }
}

impl From<Payload> for Body {
    fn from(payload: Payload) -> Self {
        match payload {
            Payload::Whole(bytes) => Body::from(bytes.unwrap_or_default()),
            Payload::Other(body) => body,
        }
    }
}

impl HttpBody for Payload {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        match &mut *self {
            Payload::Whole(bytes) => Poll::Ready(bytes.take().map(|b| Ok(Frame::data(b)))),
            Payload::Other(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Payload::Whole(bytes) => bytes.is_none(),
            Payload::Other(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Payload::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Payload::Other(body) => body.size_hint(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt as _;

    async fn check(payload: Payload, want: &str) {
        assert_eq!(payload.size_hint().exact(), Some(want.len() as u64));
        assert_eq!(payload.is_end_stream(), want.is_empty());
        assert_eq!(payload.collect().await.unwrap().to_bytes(), want);
    }

    #[tokio::test]
    async fn both_forms_are_bodies() {
        for text in ["", "abc"] {
            check(Payload::from(Bytes::from(text)), text).await;
            check(Payload::from(Body::from(text)), text).await;
            check(Payload::Other(Body::from(Payload::from(Bytes::from(text)))), text).await;
        }
    }
}
