//! The floors: the least that any proxy does (`bare`: bytes through), and the least that any gateway does
//! (`parse`: read the JSON, replace the model, forward).

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::{Request, Response};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::net::SocketAddr;
use tokio::net::{TcpListener, TcpStream};

/// Copies bytes both ways until the process ends.
pub(crate) async fn bare(listener: TcpListener, upstream: SocketAddr) -> std::io::Result<()> {
    loop {
        let (mut inbound, _) = listener.accept().await?;
        crate::background(async move {
            let Ok(mut outbound) = TcpStream::connect(upstream).await else { return };
            let _ = inbound.set_nodelay(true);
            let _ = outbound.set_nodelay(true);
            let _ = tokio::io::copy_bidirectional(&mut inbound, &mut outbound).await;
        });
    }
}

type Pool = Client<HttpConnector, Full<Bytes>>;

/// Parses every body, replaces its model and forwards it, until the process ends.
pub(crate) async fn parse(listener: TcpListener, upstream: SocketAddr) -> std::io::Result<()> {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let pool: Pool = Client::builder(TokioExecutor::new()).build(connector);
    loop {
        let (socket, _) = listener.accept().await?;
        let _ = socket.set_nodelay(true);
        let pool = pool.clone();
        crate::background(async move {
            let service = hyper::service::service_fn(move |request| forward(pool.clone(), upstream, request));
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(socket), service)
                .await;
        });
    }
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

async fn forward(
    pool: Pool,
    upstream: SocketAddr,
    request: Request<Incoming>,
) -> Result<Response<Incoming>, Failure> {
    let path = request.uri().path().to_owned();
    let body = request.into_body().collect().await?.to_bytes();
    let mut json: serde_json::Value = serde_json::from_slice(&body)?;
    if let Some(model) = json.get_mut("model") {
        *model = serde_json::Value::String("mock".to_owned());
    }
    let request = Request::post(format!("http://{upstream}{path}"))
        .header("content-type", "application/json")
        .body(Full::from(serde_json::to_vec(&json)?))?;
    Ok(pool.request(request).await?)
}
