//! `turnout bundle`: configurations that a running server keeps, puts in force and takes back.

mod sign;

use super::control::{self, Client, Over, Where, text};
use super::fetch::Answered;
use super::out::{Out, moment_of};
use super::policy::length;
use super::{FAILED, GOOD, Global, Outcome, Problem};
use crate::config::{Source, report};
use clap::Subcommand;
use policies::Replay;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Bundles: configurations that are kept, put in force, taken back
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  turnout bundle list\n  turnout bundle show active routing_rules.yaml\n  turnout bundle upload new-config --message \"no vision for the lab\"\n  turnout bundle diff 3f9c                  how it differs from the one in force\n  turnout bundle shadow 3f9c --share 0.1 --for 1h    what it would have chosen, on live traffic\n  turnout bundle activate 3f9c --dry-run    what would become of the requests that came of late\n  turnout bundle activate 3f9c\n  turnout bundle rollback                   back to the one before, at once\n  turnout bundle keygen release.key         a key to sign with, for `bundles.require_signature`\n  turnout bundle sign new-config --key release.key\n  turnout bundle verify new-config --public-key 3b6a…\n\nA bundle is named by the first characters of its hash, `active` or `previous`."
)]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    at: Where,
}

#[derive(Subcommand, Debug)]
enum What {
    /// What is kept, and what is in force
    List,
    /// One bundle: where it is from and what files it has
    Show {
        /// Its name [default: only the hash of the one in force, and its workflows]
        name: Option<String>,
        /// Print the text of this file
        path: Option<String>,
    },
    /// Check a folder of configuration files and keep it on the server; it is not in force by that
    Upload {
        /// The folder; `turnout.yaml` in it is left out
        folder: PathBuf,
        /// Why, for people
        #[arg(long, default_value = "")]
        message: String,
        /// Put it in force at once
        #[arg(long)]
        activate: bool,
        /// However much it changes for the requests that came of late
        #[arg(long, requires = "activate")]
        acknowledge: bool,
    },
    /// Put a bundle in force
    Activate {
        /// Its name
        name: String,
        /// However much it changes for the requests that came of late
        #[arg(long)]
        acknowledge: bool,
        /// Only tell what would become of the requests that came of late
        #[arg(long, conflicts_with = "acknowledge")]
        dry_run: bool,
        #[command(flatten)]
        over: Over,
    },
    /// Put the bundle in force that was in force before
    Rollback(Over),
    /// Try a bundle on live traffic: what it would have chosen, compared after the answers; nobody is called
    Shadow {
        /// Its name
        name: String,
        /// Share of the requests, above 0 and up to 1
        #[arg(long, default_value_t = 1.0)]
        share: f64,
        /// End it after this time, such as 30m or 24h [default: when somebody ends it]
        #[arg(long = "for", value_parser = length)]
        lasts: Option<Duration>,
        /// End it after this many requests [default: however many come]
        #[arg(long)]
        for_requests: Option<u64>,
        /// Tell what came of it so far
        #[arg(long, conflicts_with_all = ["share", "lasts", "for_requests", "end"])]
        report: bool,
        /// Try it no more
        #[arg(long, conflicts_with_all = ["share", "lasts", "for_requests"])]
        end: bool,
    },
    /// How a bundle differs from another
    Diff {
        /// Its name
        name: String,
        /// The other one
        #[arg(long, default_value = "active")]
        against: String,
    },
    /// Make a key to sign bundles with; tells its public half
    Keygen(sign::Keygen),
    /// Sign the files of a folder: writes `signature.json` beside them; no server is needed
    Sign(sign::Sign),
    /// Check that a folder is as it was signed; no server is needed
    Verify(sign::Verify),
}

pub(super) async fn run(global: &Global, args: &Args, out: &Out) -> Outcome {
    if matches!(args.what, What::Keygen(_) | What::Sign(_) | What::Verify(_)) {
        args.at.named_for_nothing()?;
    }
    match &args.what {
        What::Keygen(args) => return sign::keygen(args, out),
        What::Sign(args) => return sign::sign(args, out),
        What::Verify(args) => return sign::verify(args, out),
        _ => {}
    }
    let client = Client::find(global, &args.at)?;
    match &args.what {
        What::Keygen(_) | What::Sign(_) | What::Verify(_) => {}
        What::List => list(&client.ask("GET", "/bundles", None).await?, out),
        What::Show { name: None, .. } => {
            control::show(out, &client.ask("GET", "/bundle", None).await?, &[]);
        }
        What::Show { name: Some(name), path } => {
            let said = client.ask("GET", &format!("/bundles/{name}"), None).await?;
            return show(&said, path.as_deref(), out);
        }
        What::Upload { folder, message, activate, acknowledge } => {
            let activate = activate.then_some(*acknowledge);
            return upload(&client, folder, message, activate, out).await;
        }
        What::Activate { name, dry_run: true, over, .. } => {
            let path = over.path(&format!("/bundles/{name}/activate"), &["dry_run=true"]);
            foretold(&client.ask("POST", &path, None).await?, out);
        }
        What::Activate { name, acknowledge, over, .. } => {
            let path = over.path(&format!("/bundles/{name}/activate"), &[]);
            in_force(&put_in_force(&client, &path, *acknowledge).await?, out);
        }
        What::Rollback(over) => {
            in_force(&client.ask("POST", &over.path("/bundles/rollback", &[]), None).await?, out);
        }
        What::Shadow { name, share, lasts, for_requests, report, end } => {
            let path = format!("/bundles/{name}/shadow");
            let said = match (report, end) {
                (true, _) => client.ask("GET", &path, None).await?,
                (_, true) => client.ask("DELETE", &path, None).await?,
                _ => {
                    let mut body = Map::from_iter([("share".to_owned(), json!(share))]);
                    control::put(&mut body, "for_s", lasts.map(|lasts| lasts.as_secs()));
                    control::put(&mut body, "for_requests", *for_requests);
                    client.ask("POST", &path, Some(&Value::Object(body))).await?
                }
            };
            trial(&said, out);
        }
        What::Diff { name, against } => {
            let path = format!("/bundles/{name}/diff?against={against}");
            diff(&client.ask("GET", &path, None).await?, out);
        }
    }
    Ok(GOOD)
}

fn rows<'a>(of: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    of.get(name).and_then(Value::as_array).into_iter().flatten()
}

fn moment(of: &Value, name: &str) -> String {
    of.get(name).and_then(moment_of).unwrap_or_default()
}

fn list(said: &Value, out: &Out) {
    if out.json {
        out.value(said);
        return;
    }
    let mut table = out.table(&["bundle", "state", "from", "by", "came (UTC)", "in force since", "message"]);
    for row in rows(said, "data") {
        let since = if text(row, "state") == "active" { moment(row, "activated_ms") } else { String::new() };
        table.add_row([
            text(row, "hash").to_owned(),
            text(row, "state").to_owned(),
            text(row, "origin").to_owned(),
            text(row, "by").to_owned(),
            moment(row, "at_ms"),
            since,
            text(row, "message").to_owned(),
        ]);
    }
    out.line(&table.to_string());
    files(said.get("files").unwrap_or(&Value::Null), out);
}

/// How the configuration folder of the server stands to what is in force.
fn files(files: &Value, out: &Out) {
    let hash = text(files, "hash");
    match text(files, "state") {
        "overruled" => out.line(&format!(
            "The files of the server are bundle {hash}; what is in force came from elsewhere. They are taken up when \
             they change, or with `turnout bundle activate {hash}`."
        )),
        "refused" => {
            out.line("The files of the server have errors and are not in force:");
            problems(files, out);
        }
        _ => {}
    }
}

pub(super) fn problems(of: &Value, out: &Out) {
    for p in rows(of, "problems") {
        let number = |name: &str| p.get(name).and_then(Value::as_u64).unwrap_or(0);
        let place = format!("{}:{}:{}", text(p, "file"), number("line"), number("column"));
        let mut line = format!("  {place}: {}: {}", text(p, "code"), text(p, "message"));
        for (before, name) in [("; expected ", "expected"), ("; ", "hint")] {
            let more = text(p, name);
            if !more.is_empty() {
                line.push_str(&format!("{before}{more}"));
            }
        }
        out.line(&line);
    }
}

fn show(said: &Value, path: Option<&str>, out: &Out) -> Outcome {
    let texts = said.get("files").and_then(Value::as_object);
    if let Some(path) = path {
        let found = texts.and_then(|t| t.get(path)).and_then(Value::as_str);
        let found = found.ok_or_else(|| {
            let known = texts.into_iter().flatten().map(|(p, _)| p.as_str());
            Problem(format!("it has no file `{path}`; {}", types::diagnostic::suggestion(path, known)))
        })?;
        match out.json {
            true => out.value(&serde_json::json!({ "path": path, "text": found })),
            false => out.raw(found),
        }
        return Ok(GOOD);
    }
    if out.json {
        out.value(said);
        return Ok(GOOD);
    }
    let (hash, state) = (text(said, "hash"), text(said, "state"));
    let (from, by, when) = (text(said, "origin"), text(said, "by"), moment(said, "at_ms"));
    out.line(&format!("{hash}  {state}\ncame      {when} UTC from {from}, by {by}"));
    let since = moment(said, "activated_ms");
    if !since.is_empty() {
        out.line(&format!(
            "in force  {} {since} UTC",
            if state == "active" { "since" } else { "last put there" }
        ));
    }
    if !text(said, "message").is_empty() {
        out.line(&format!("because   {}", text(said, "message")));
    }
    for (path, text) in texts.into_iter().flatten() {
        out.line(&format!("  {path} ({} bytes)", text.as_str().map_or(0, str::len)));
    }
    problems(said, out);
    Ok(GOOD)
}

async fn put_in_force(client: &Client, path: &str, acknowledge: bool) -> Result<Value, Problem> {
    let body = json!({ "acknowledge": acknowledge });
    client.ask("POST", path, Some(&body)).await
}

/// `activate`: put it in force at once, however much it changes where that is acknowledged.
async fn upload(client: &Client, folder: &Path, message: &str, activate: Option<bool>, out: &Out) -> Outcome {
    let (sources, found) = Source::Folder(folder.to_owned()).read();
    if !found.is_empty() {
        return Err(Problem(report(&found, &[], false)));
    }
    let files = sources.written();
    if files.is_empty() {
        return Err(Problem(format!("{} holds no file of a configuration", folder.display())));
    }
    let body = json!({ "files": files, "message": message });
    let Answered { status, document } = client.try_ask("POST", "/bundles", Some(&body)).await?;
    if status >= 300 {
        let error = document.get("error").unwrap_or(&document);
        if out.json {
            out.value(&document);
            return Ok(FAILED);
        }
        return Err(Problem(text(error, "message").to_owned()));
    }
    let hash = text(&document, "hash").to_owned();
    let said = match activate {
        Some(acknowledge) => put_in_force(client, &format!("/bundles/{hash}/activate"), acknowledge).await?,
        None => document.clone(),
    };
    if out.json {
        out.value(&said);
        return Ok(GOOD);
    }
    let kept = if status == 201 { "is kept" } else { "was kept already" };
    out.line(&format!(
        "bundle {hash} {kept} ({})",
        files.keys().map(String::as_str).collect::<Vec<_>>().join(", ")
    ));
    problems(&document, out);
    if activate.is_some() {
        in_force(&said, out);
    } else {
        out.line(&format!("next    turnout bundle diff {hash}, turnout bundle activate {hash}"));
    }
    Ok(GOOD)
}

fn in_force(said: &Value, out: &Out) {
    if out.json {
        out.value(said);
    } else {
        out.line(&format!("bundle {} is in force for new requests", text(said, "hash")));
    }
}

/// What a bundle would change, where nothing was changed.
fn foretold(said: &Value, out: &Out) {
    if out.json {
        out.value(said);
        return;
    }
    replay(said, out);
    out.line(&format!("nothing was changed; it would be bundle {}", text(said, "hash")));
}

/// What would become of recorded requests, where that was asked.
pub(super) fn replay(said: &Value, out: &Out) {
    let Some(told) = said.get("replay").filter(|told| !told.is_null()) else { return };
    if let Ok(replay) = Replay::deserialize(told) {
        super::policy::tell_replay(&replay, out);
    }
    let exceeds = text(told, "exceeds");
    if !exceeds.is_empty() {
        out.line(&format!(
            "more than `bundles.{exceeds}` allows: it comes into force only with `--acknowledge`"
        ));
    }
}

fn trial(said: &Value, out: &Out) {
    if out.json {
        out.value(said);
        return;
    }
    let number = |name: &str| said.get(name).and_then(Value::as_u64).unwrap_or(0);
    let share = said.get("share").and_then(Value::as_f64).unwrap_or(0.0) * 100.0;
    let (hash, against, state) = (text(said, "hash"), text(said, "against"), text(said, "state"));
    out.line(&format!(
        "bundle {hash} beside {against}: {state}, {share} % of the requests, since {} UTC",
        moment(said, "since_ms")
    ));
    let (requests, same) = (number("requests"), number("same"));
    out.line(&format!(
        "{requests} requests: {same} decided alike, {} differently",
        requests.saturating_sub(same)
    ));
    for (what, n) in said.get("different").and_then(Value::as_object).into_iter().flatten() {
        out.line(&format!("  {n} {}", what.replace('_', " ")));
    }
    if number("dropped") > 0 {
        out.line(&format!("{} more were not looked at: too many waited", number("dropped")));
    }
    let mut table = out.table(&["request", "difference", "in force", "tried"]);
    for e in rows(said, "examples") {
        let side = |name: &str| e.get(name).map(side).unwrap_or_default();
        table.add_row([
            text(e, "request_id").to_owned(),
            text(e, "difference").replace('_', " "),
            side("active"),
            side("shadow"),
        ]);
    }
    if !table.is_empty() {
        out.line(&table.to_string());
    }
    if state == "running" && requests == 0 {
        out.line(&format!("nothing yet; ask again with `turnout bundle shadow {hash} --report`"));
    }
}

/// What was chosen, or why nothing was.
fn side(of: &Value) -> String {
    let what = match text(of, "refused") {
        "" => format!("{} on {}", text(of, "workflow"), text(of, "model")),
        code => code.to_owned(),
    };
    format!("{what}\n{}", text(of, "why"))
}

pub(super) fn diff(said: &Value, out: &Out) {
    if out.json {
        out.value(said);
        return;
    }
    out.line(&format!("from {} to {}", text(said, "from"), text(said, "to")));
    if rows(said, "files").next().is_none() {
        out.line("the files are the same");
        return;
    }
    for file in rows(said, "files") {
        out.line(&format!("\n{}  {}", text(file, "change"), text(file, "path")));
        out.raw(text(file, "diff"));
    }
    out.line("");
    for (what, name) in [("model", "models"), ("workflow", "workflows")] {
        let part = said.get(name).unwrap_or(&Value::Null);
        came_and_went(what, part, out);
    }
    let rules = said.get("rules").unwrap_or(&Value::Null);
    came_and_went("rule", rules, out);
    for (id, what) in rules.get("changed").and_then(Value::as_object).into_iter().flatten() {
        out.line(&format!("changed  rule {id}"));
        for line in what.as_array().into_iter().flatten().filter_map(Value::as_str) {
            out.line(&format!("         {line}"));
        }
    }
}

fn came_and_went(what: &str, part: &Value, out: &Out) {
    for (sign, name) in [("added  ", "added"), ("removed", "removed")] {
        for id in rows(part, name).filter_map(Value::as_str) {
            out.line(&format!("{sign}  {what} {id}"));
        }
    }
}
