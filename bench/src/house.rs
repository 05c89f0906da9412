//! A turnout in front of the mock, with as many models as asked for and everything shipped switched on.

use crate::process::Process;
use std::fmt::Write as _;
use std::net::SocketAddr;

/// A turnout under load, with its folder.
pub(crate) struct House {
    /// The process.
    pub(crate) process: Process,
    _folder: tempfile::TempDir,
}

/// Starts it.
pub(crate) async fn start(mock: SocketAddr, models: usize) -> Result<House, crate::Failure> {
    let folder = tempfile::Builder::new().prefix("turnout-bench-").tempdir()?;
    std::fs::write(folder.path().join("capability_matrix.yaml"), matrix(mock, models))?;
    let path = folder.path().to_string_lossy().into_owned();
    let data = folder.path().join("data").to_string_lossy().into_owned();
    let args = ["--config", &path, "serve", "--listen", "127.0.0.1:0", "--data", &data];
    let process = Process::turnout(&args).await?;
    Ok(House { process, _folder: folder })
}

fn matrix(mock: SocketAddr, models: usize) -> String {
    let mut text = format!(
        "version: 1\nproviders:\n  mock:\n    dialect: openai_chat\n    base_url: http://{mock}/v1\n    tier: paid\nmodels:\n"
    );
    for i in 0..models {
        let price = 0.2 + (i % 7) as f64;
        let success = 0.6 + (i % 5) as f64 * 0.05;
        let tier = i % 3 + 1;
        // Writing to a string does not fail.
        let _ = write!(
            text,
            "  mock/m{i}:\n    context_window: 128000\n    max_output_tokens: 8192\n    \
             abilities: [streaming, tools, json, json_schema, seed]\n    \
             price: {{ input: {price}, cached_input: {price}, output: {price} }}\n    \
             quality_tier: {tier}\n    speed_tier: 1\n    \
             prior: {{ strength: 8, success: {{ default: {success:.2} }}, ttft_ms: 50, tokens_per_second: 200 }}\n"
        );
    }
    text
}
