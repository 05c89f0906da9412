//! What a server is started with, and where it keeps its data.

use crate::config::server::Server;
use crate::config::{Environment, Simulated, Source};
use std::path::PathBuf;
use std::sync::Arc;
use types::options::Mode;
use types::provider::ChatProvider;

/// Where the server listens unless it is told otherwise.
pub const DEFAULT_LISTEN: &str = "127.0.0.1:8080";
/// File in the data folder that holds the address of the server that uses it.
pub const ADDRESS_FILE: &str = "listen";
/// File in the data folder that holds the address of its control API.
pub const ADMIN_FILE: &str = "admin";
/// Where records go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Data {
    /// The folder of the settings, else the user's data folder.
    #[default]
    Default,
    /// This folder.
    Folder(PathBuf),
    /// Nowhere: what is learned ends with the process.
    Memory,
}

/// What a server is started with. Flags outrank environment and files.
#[derive(Clone, Default)]
pub struct Settings {
    /// The configuration.
    pub source: Source,
    /// The environment: keys of providers, `TURNOUT_*`.
    pub environment: Environment,
    /// Address to listen on; port 0 takes a free one.
    pub listen: Option<String>,
    /// Address of the control API; `none` = it is not served.
    pub admin: Option<String>,
    /// Where records go.
    pub data: Data,
    /// Price tiers that may be candidates.
    pub mode: Option<Mode>,
    /// What becomes of simulated models.
    pub simulated: Simulated,
    /// Listen on other addresses than loopback although nothing asks for keys.
    pub insecure_open: bool,
    /// Answers all calls in place of the fleet; every enabled model is then available.
    pub provider: Option<Arc<dyn ChatProvider>>,
    /// Seed of every draw.
    pub seed: Option<u64>,
}

/// The data folder; `None` = records stay in memory.
pub(super) fn folder(settings: &Settings, server: &Server) -> Option<PathBuf> {
    match &settings.data {
        Data::Memory => None,
        Data::Folder(f) => Some(f.clone()),
        Data::Default => {
            Some(server.data.clone().map_or_else(|| default_folder(&settings.environment), PathBuf::from))
        }
    }
}

/// Where data goes by default: `$XDG_DATA_HOME/turnout`, else `~/.local/share/turnout`, else `./turnout-data`.
#[must_use]
pub fn default_folder(environment: &Environment) -> PathBuf {
    let absolute = |name| environment.get(name).map(PathBuf::from).filter(|p| p.is_absolute());
    if let Some(base) = absolute("XDG_DATA_HOME") {
        return base.join("turnout");
    }
    absolute("HOME").map_or_else(|| PathBuf::from("turnout-data"), |home| home.join(".local/share/turnout"))
}
