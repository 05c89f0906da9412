//! Services of the operator's own that workflows ask: tools and checks over HTTP.

use crate::config::Environment;
use crate::hosts::Config;
use bytes::Bytes;
use engine::outside::{Fetch, Outside, Request, Response};
use futures_util::future::BoxFuture;
use providers::Outgoing;
use std::sync::Arc;

/// Longest answer of a tool, bytes.
const LONGEST: usize = 1 << 20;

/// Asks those services that may be asked.
struct Services {
    hosts: Config,
    out: Outgoing,
    /// Holds the secrets of tools.
    environment: Environment,
}

impl Fetch for Services {
    fn fetch(&self, r: Request) -> BoxFuture<'_, Result<Response, String>> {
        Box::pin(async move {
            self.hosts.check(&r.url).map_err(|e| e.for_tools().to_owned())?;
            let mut headers = r.headers;
            if let Some(auth) = r.auth {
                let secret = self.environment.get(&auth.env);
                let secret = secret.ok_or_else(|| format!("the environment has no variable {}", auth.env))?;
                headers.push((auth.header, format!("{}{secret}", auth.prefix)));
            }
            let body = r.body.map(|b| Bytes::from(b.to_string()));
            let (status, body) = self.out.call(r.method, &r.url, &headers, body, r.timeout, LONGEST).await?;
            Ok(Response { status, body })
        })
    }
}

/// What workflows reach besides models, as the settings say. Nothing where they say nothing.
///
/// # Errors
/// In words: TLS cannot be had.
pub(crate) fn outside(
    runner: &crate::runner::Config,
    hosts: &Config,
    environment: &Environment,
) -> Result<Outside, String> {
    let runner = runner.enabled.then(|| crate::runner::Runner::new(runner));
    let fetch = match hosts.allow_hosts.is_empty() {
        true => None,
        false => Some(Services {
            hosts: hosts.clone(),
            out: Outgoing::new(hosts.allow_private)?,
            environment: environment.clone(),
        }),
    };
    Ok(Outside {
        runner: runner.map(|r| Arc::new(r) as Arc<dyn types::runner::CodeRunner>),
        fetch: fetch.map(|f| Arc::new(f) as Arc<dyn Fetch>),
    })
}
