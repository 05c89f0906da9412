//! A control API, found and asked.

use super::super::explain::folder;
use super::super::fetch::{self, Answered};
use super::super::out::Out;
use super::super::{Global, Problem};
use crate::admin::ROOT;
use crate::app::ADMIN_FILE;
use crate::control::plane::LOCAL_TOKEN;
use serde_json::Value;
use std::io;
use std::path::Path;

/// Where the control API is.
#[derive(clap::Args, Debug)]
pub(in crate::cli) struct Where {
    /// Ask this control API instead of the one that uses the data folder; the key is TURNOUT_ADMIN_KEY
    #[arg(long, value_name = "http://HOST:PORT", global = true)]
    url: Option<String>,
}

impl Where {
    /// The control API that is named.
    pub(in crate::cli) fn url(&self) -> Option<&str> {
        self.url.as_deref()
    }

    /// That no control API is named, for a command of the group that asks none.
    pub(in crate::cli) fn named_for_nothing(&self) -> Result<(), Problem> {
        match &self.url {
            Some(url) => Err(Problem(format!("this command asks no server; leave out --url {url}"))),
            None => Ok(()),
        }
    }
}

/// A control API and the key for it.
pub(in crate::cli) struct Client {
    address: String,
    token: String,
    out: Out,
}

impl Client {
    pub(in crate::cli) fn find(global: &Global, at: &Where) -> Result<Client, Problem> {
        let out = Out::new(global.json);
        let key = std::env::var("TURNOUT_ADMIN_KEY").ok().filter(|k| !k.is_empty());
        if let Some(url) = &at.url {
            let token = key.ok_or_else(|| {
                Problem(
                    "set TURNOUT_ADMIN_KEY to a key with a role, made with `turnout key create --role …`"
                        .to_owned(),
                )
            })?;
            return Ok(Client { address: url.clone(), token, out });
        }
        let folder = folder(global);
        let read = |name: &str| std::fs::read_to_string(folder.join(name)).map(|t| t.trim().to_owned());
        let address = read(ADMIN_FILE).map_err(|e| unread(&folder, &e))?;
        let token = key.map_or_else(|| read(LOCAL_TOKEN), Ok).map_err(|e| {
            Problem(format!(
                "cannot read {}: {e}; run this as the user of the server, or set TURNOUT_ADMIN_KEY",
                folder.join(LOCAL_TOKEN).display()
            ))
        })?;
        Ok(Client { address, token, out })
    }

    /// A document, or what the server says against it.
    pub(in crate::cli) async fn try_ask(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Answered, Problem> {
        fetch::ask(&self.address, method, &format!("{ROOT}{path}"), Some(&self.token), body).await
    }

    pub(in crate::cli) async fn ask(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, Problem> {
        let Answered { status, document } = self.try_ask(method, path, body).await?;
        if status < 300 {
            return Ok(document);
        }
        if self.out.json && document.pointer("/error/message").is_some() {
            self.out.refused(&document);
            return Err(Problem(String::new()));
        }
        let message = document.pointer("/error/message").and_then(Value::as_str).unwrap_or("refused");
        let param = document.pointer("/error/param").and_then(Value::as_str);
        Err(Problem(param.map_or_else(|| message.to_owned(), |param| in_options(message, param))))
    }
}

/// Why the address of the server cannot be read: none uses the folder, or this user may not look into it.
fn unread(folder: &Path, e: &io::Error) -> Problem {
    Problem(match e.kind() {
        io::ErrorKind::NotFound => format!(
            "no server uses the data folder {}; start one with `turnout serve`, or name its control API with --url",
            folder.display()
        ),
        _ => format!(
            "cannot read {}: {e}; run this as the user of the server, or name its control API with --url and set \
             TURNOUT_ADMIN_KEY",
            folder.join(ADMIN_FILE).display()
        ),
    })
}

/// What the server says of a member of a body, said of the option that it came by.
fn in_options(message: &str, param: &str) -> String {
    const OPTIONS: &[(&str, &str)] = &[
        ("scopes.models", "--model"),
        ("scopes.workflows", "--workflow"),
        ("scopes.endpoints", "--endpoint"),
        ("limits", "--limit"),
        ("labels", "--label"),
        ("group_by", "--by"),
        ("expires_ms", "--expires"),
        ("grace_s", "--grace-s"),
        ("for_s", "--for"),
        ("for_requests", "--for-requests"),
        ("time_zone", "--time-zone"),
        ("tenant", "--tenant"),
        ("from", "--from"),
        ("to", "--to"),
        ("limit", "--limit"),
        ("title", "--title"),
        ("region", "--region"),
        ("name", "--name"),
        ("version", "--if-version"),
        ("if", "--if-bundle"),
    ];
    let of = param.split('[').next().unwrap_or(param);
    let Some((member, option)) = OPTIONS.iter().find(|(member, _)| *member == of) else {
        return message.to_owned();
    };
    match message.replace(&format!("`{member}`"), &format!("`{option}`")) {
        told if told.contains(option) => told,
        told => format!("{option}: {told}"),
    }
}

#[cfg(test)]
mod tests {
    use super::{Problem, in_options, unread};
    use std::io;
    use std::path::Path;

    #[test]
    fn a_folder_that_may_not_be_read_is_told_from_one_that_no_server_uses() {
        let said = |kind: io::ErrorKind| {
            let Problem(said) = unread(Path::new("data"), &kind.into());
            said
        };
        assert!(said(io::ErrorKind::NotFound).starts_with("no server uses the data folder data"));
        let denied = said(io::ErrorKind::PermissionDenied);
        assert!(
            denied.contains("permission denied") && denied.contains("the user of the server"),
            "{denied}"
        );
    }

    #[test]
    fn members_of_a_body_are_told_as_the_options_they_came_by() {
        for (message, param, want) in [
            ("`expires_ms` lies in the past", "expires_ms", "`--expires` lies in the past"),
            ("`gpt` names nothing here", "scopes.models", "--model: `gpt` names nothing here"),
            ("`gpt` names nothing here", "limits[0].model", "--limit: `gpt` names nothing here"),
            ("there is no tenant `x`", "tenant", "--tenant: there is no tenant `x`"),
            ("the rule has errors", "source", "the rule has errors"),
        ] {
            assert_eq!(in_options(message, param), want);
        }
    }
}
