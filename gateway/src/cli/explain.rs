//! `turnout explain`: how a request was decided, what ran, how it turned out.

use super::fetch::{self, Said};
use super::out::Out;
use super::{GOOD, Global, Outcome, Problem};
use crate::app::{self, ADDRESS_FILE, Data};
use crate::config::{self, Simulated};
use std::path::{Path, PathBuf};
use stores::Store;
use types::store::{Error, OutcomeStore as _, Stored};

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
            match ask(url, &args.request_id, key.as_deref()).await? {
                Known::Here(stored) => *stored,
                Known::Erased(words) | Known::Unknown(words) => return Err(Problem(words)),
            }
        }
        None => find(global, &args.request_id).await?,
    };
    if out.json {
        out.value(&serde_json::to_value(&stored)?);
    } else {
        out.text(&engine::explain::table(&stored, args.verbose));
    }
    Ok(GOOD)
}

/// What is known of a request where somebody was asked.
enum Known {
    Here(Box<Stored>),
    /// It was erased; in the words of whoever says so.
    Erased(String),
    /// It is not here; in the words of whoever says so.
    Unknown(String),
}

async fn ask(address: &str, id: &str, token: Option<&str>) -> Result<Known, Problem> {
    Ok(match fetch::get(address, &format!("/v1/decisions/{id}"), token).await? {
        Said::Document(document) => Known::Here(Box::new(serde_json::from_value(document)?)),
        Said::Gone(words) => Known::Erased(words),
        Said::NotFound(words) => Known::Unknown(words),
    })
}

async fn find(global: &Global, id: &str) -> Result<Stored, Problem> {
    let folder = folder(global);
    let mut tried = Vec::new();
    let mut of_folder = false;
    for address in addresses(global, &folder) {
        match ask(&address, id, token(&folder).as_deref()).await {
            Ok(Known::Here(stored)) => return Ok(*stored),
            Ok(Known::Erased(words)) => return Err(Problem(words)),
            Ok(Known::Unknown(_)) => {
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
            Ok(Known::Here(stored)) => return Ok(*stored),
            Ok(Known::Erased(words)) => return Err(Problem(words)),
            Ok(Known::Unknown(words)) => tried.push(words),
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
async fn read(folder: &Path, id: &str) -> Result<Known, String> {
    if !folder.is_dir() {
        return Err("there is no such folder".to_owned());
    }
    // The learner that a server would bring: what is in the spool is moved and learned from as at any start.
    let (learner, _) = engine::learner(engine::learn::Limits::default());
    let store =
        Store::open(folder, stores::Config::default(), Box::new(learner)).map_err(|e| e.to_string())?;
    let found = store.request(id).await;
    store.close().map_err(|e| e.to_string())?;
    match found {
        Ok(Some(stored)) => Ok(Known::Here(Box::new(stored))),
        Ok(None) => Ok(Known::Unknown(format!("{} has no such request", folder.display()))),
        Err(e @ Error::Erased { .. }) => Ok(Known::Erased(e.to_string())),
        Err(e) => Err(e.to_string()),
    }
}
