//! Services of the operator's own that workflows ask: tools and checks over HTTP.

use crate::hosts::{Config, Refused};
use bytes::Bytes;
use engine::outside::{Fetch, Outside, Request, Response};
use futures_util::future::BoxFuture;
use providers::Outgoing;
use std::sync::Arc;

/// Asks those services that may be asked.
struct Services {
    hosts: Config,
    out: Outgoing,
}

impl Fetch for Services {
    fn fetch(&self, r: Request) -> BoxFuture<'_, Result<Response, String>> {
        Box::pin(async move {
            self.hosts.check(&r.url).map_err(|e| match e {
                Refused::Address(why) => why.to_owned(),
                Refused::Host => {
                    "its host is not among those that may be asked (tools.allow_hosts)".to_owned()
                }
            })?;
            let body = r.body.map(|b| Bytes::from(b.to_string()));
            let (status, body) = self.out.call(r.method, &r.url, &r.headers, body, r.timeout).await?;
            Ok(Response { status, body })
        })
    }
}

/// What workflows reach besides models, as the settings say. Nothing where they say nothing.
///
/// # Errors
/// In words: TLS cannot be had.
pub(crate) fn outside(runner: &crate::runner::Config, hosts: &Config) -> Result<Outside, String> {
    let runner = runner.enabled.then(|| crate::runner::Runner::new(runner));
    let fetch = match hosts.allow_hosts.is_empty() {
        true => None,
        false => Some(Services { hosts: hosts.clone(), out: Outgoing::new(hosts.allow_private)? }),
    };
    Ok(Outside {
        runner: runner.map(|r| Arc::new(r) as Arc<dyn types::runner::CodeRunner>),
        fetch: fetch.map(|f| Arc::new(f) as Arc<dyn Fetch>),
    })
}
