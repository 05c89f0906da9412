//! `turnout explain`: how a request was decided, what ran, how it turned out.

use super::fetch::{self, Said};
use super::out::Out;
use super::{GOOD, Global, Outcome, Problem};
use crate::app::{self, ADDRESS_FILE, Data};
use crate::config::{self, Simulated};
use std::path::{Path, PathBuf};
use stores::Store;
use types::store::{OutcomeStore as _, Stored};

/// Tell how a request was decided and how it turned out
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  turnout explain req_0192f3a1…\n  turnout explain req_0192f3a1… --json | jq .decision.arms\n  turnout explain req_0192f3a1… --url http://10.0.0.5:8080\n\nThe identifier stands in the header x-turnout-decision of the answer. The server that uses the data folder is\nasked first, then the one at --listen, then the data folder itself."
)]
pub(super) struct Args {
    /// The request
    request_id: String,
    /// Ask this server
    #[arg(long, value_name = "http://HOST:PORT")]
    url: Option<String>,
    /// Tell of rules that did not match, too
    #[arg(long, short)]
    verbose: bool,
}

pub(super) async fn run(global: &Global, args: &Args, out: &Out) -> Outcome {
    if !types::options::is_identifier(&args.request_id) {
        return Err(Problem(
            "that is no request's identifier; it stands in the header x-turnout-decision of the answer"
                .to_owned(),
        ));
    }
    let stored = match &args.url {
        Some(url) => {
            let key = std::env::var("TURNOUT_API_KEY").ok();
            ask(url, &args.request_id, key.as_deref()).await?.map_err(Problem)?
        }
        None => find(global, &args.request_id).await?,
    };
    if out.json {
        out.value(&serde_json::to_value(&stored)?);
    } else {
        out.raw(&engine::explain::table(&stored, args.verbose));
    }
    Ok(GOOD)
}

/// The record, or in which words the server does not have it.
async fn ask(address: &str, id: &str, token: Option<&str>) -> Result<Result<Stored, String>, Problem> {
    Ok(match fetch::get(address, &format!("/v1/decisions/{id}"), token).await? {
        Said::Document(document) => Ok(serde_json::from_value(document)?),
        Said::NotFound(words) => Err(words),
    })
}

async fn find(global: &Global, id: &str) -> Result<Stored, Problem> {
    let folder = folder(global);
    let mut tried = Vec::new();
    let mut of_folder = false;
    for address in addresses(global, &folder) {
        match ask(&address, id, token(&folder).as_deref()).await {
            Ok(Ok(stored)) => return Ok(stored),
            Ok(Err(_)) => {
                of_folder |= noted(&folder).as_ref() == Some(&address);
                tried.push(format!(
                    "the server at {address} has no such request; one that it refused before deciding \
                     anything (a wrong body or key, a limit at the door) leaves no record"
                ));
            }
            Err(Problem(why)) => tried.push(why),
        }
    }
    // A server that uses the folder has told all there is in it.
    if !of_folder {
        match read(&folder, id).await {
            Ok(Some(stored)) => return Ok(stored),
            Ok(None) => tried.push(format!("{} has no such request", folder.display())),
            Err(why) => tried.push(format!("{}: {why}", folder.display())),
        }
    }
    Err(Problem(format!(
        "`{id}` was not found:\n  {}\nname the server with --url http://HOST:PORT, or its data folder with --data DIR",
        tried.join("\n  ")
    )))
}

/// The data folder that a server with these flags would use.
pub(super) fn folder(global: &Global) -> PathBuf {
    let environment = Global::environment();
    match global.settings(Simulated::AsWritten).data {
        Data::Folder(f) => f,
        _ => {
            let server = config::load(&global.source(), &environment, Simulated::AsWritten).server;
            server.data.map_or_else(|| app::default_folder(&environment), PathBuf::from)
        }
    }
}

/// Where a server may be found: the one that uses the folder, then the one of the flags.
pub(super) fn addresses(global: &Global, folder: &Path) -> Vec<String> {
    let flag = global.listen.clone().unwrap_or_else(|| app::DEFAULT_LISTEN.to_owned());
    let mut list: Vec<String> = noted(folder).into_iter().chain(std::iter::once(flag)).collect();
    list.dedup();
    list
}

/// The address of the server that uses a folder, or did.
pub(super) fn noted(folder: &Path) -> Option<String> {
    std::fs::read_to_string(folder.join(ADDRESS_FILE)).ok().map(|t| t.trim().to_owned())
}

/// The token by which the server that uses a folder knows its own user.
pub(super) fn token(folder: &Path) -> Option<String> {
    std::fs::read_to_string(folder.join(crate::control::plane::LOCAL_TOKEN)).ok()
}

/// Looks into the folder itself; no server uses it then.
async fn read(folder: &Path, id: &str) -> Result<Option<Stored>, String> {
    if !folder.is_dir() {
        return Err("there is no such folder".to_owned());
    }
    // The learner that a server would bring: what is in the spool is moved and learned from as at any start.
    let (learner, _) = engine::learner(engine::learn::Limits::default());
    let store =
        Store::open(folder, stores::Config::default(), Box::new(learner)).map_err(|e| e.to_string())?;
    let found = store.request(id).await.map_err(|e| e.to_string());
    store.close().map_err(|e| e.to_string())?;
    found
}
