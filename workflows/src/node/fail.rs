//! `fail`: ends the run with the author's own error.

use crate::ending::RunFailure;
use crate::load::Cx;
use serde_json::{Value, json};
use types::doc::Fields;

/// What a file says of it.
#[derive(Clone, Debug)]
pub(crate) struct Fail {
    code: String,
    message: String,
    status: u16,
}

impl Fail {
    pub(crate) fn lower(cx: &mut Cx<'_>, f: &mut Fields<'_>) -> Self {
        let code =
            f.require(&mut cx.r, "code").and_then(|n| cx.r.ident(n, &f.at("code"))).unwrap_or_default();
        let message = f.require(&mut cx.r, "message").and_then(|n| {
            let text = cx.r.string(n, &f.at("message"))?;
            if text.replace("$${", "").contains("${") {
                cx.unsupported(n.span, "templates (`${ … }`)");
            }
            Some(text.replace("$${", "${"))
        });
        let status = f
            .take("status")
            .and_then(|n| cx.r.integer(n, &f.at("status"), 400, 599))
            .and_then(|n| u16::try_from(n).ok())
            .unwrap_or(422);
        Fail { code, message: message.unwrap_or_default(), status }
    }

    pub(crate) fn canonical(&self) -> Value {
        json!([self.code, self.message, self.status])
    }

    pub(crate) fn failure(&self) -> RunFailure {
        RunFailure::new("workflow", &self.code, self.status, self.message.as_str())
    }
}
