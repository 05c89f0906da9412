//! Reads an audit trail from its files, without a server, and says where it first breaks.

use super::line::{self, Hash, Sealed};
use super::{CHAIN, files};
use serde_json::Value;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader};
use std::path::{Path, PathBuf};

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Report {
    /// Lines that hold.
    pub(crate) lines: u64,
    /// Seals that hold.
    pub(crate) seals: u64,
    /// Lines after the last seal: chained, not yet signed.
    pub(crate) unsealed: u64,
    /// The first thing that does not hold.
    pub(crate) broken: Option<Broken>,
}

/// Where the trail breaks.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Broken {
    /// Number of the line, or of the line that the seal should cover.
    pub(crate) seq: u64,
    pub(crate) file: String,
    /// From 1.
    pub(crate) line: u64,
    pub(crate) why: String,
}

/// How far a trail holds: what whoever writes on continues from.
#[derive(Clone, Debug)]
pub(crate) struct Chain {
    pub(crate) next: u64,
    pub(crate) prev: Hash,
    pub(crate) prev_seal: Hash,
    pub(crate) unsealed: u64,
}

impl Chain {
    pub(crate) fn new(instance: &str) -> Chain {
        Chain { next: 1, prev: line::genesis(instance), prev_seal: [0; 32], unsealed: 0 }
    }
}

/// Verifies all files of a folder with a public key.
///
/// # Errors
/// A file cannot be read.
pub(crate) fn verify(folder: &Path, instance: &str, public: &[u8]) -> io::Result<(Report, Chain)> {
    let mut chain = Chain::new(instance);
    let mut report = Report { lines: 0, seals: 0, unsealed: 0, broken: None };
    for path in files(folder)? {
        one(&path, public, &mut chain, &mut report)?;
        if report.broken.is_some() {
            break;
        }
    }
    report.unsealed = chain.unsealed;
    Ok((report, chain))
}

fn one(path: &PathBuf, public: &[u8], chain: &mut Chain, report: &mut Report) -> io::Result<()> {
    let mut reader = BufReader::with_capacity(1 << 20, File::open(path)?);
    let (mut text, mut number) = (Vec::new(), 0_u64);
    loop {
        text.clear();
        if reader.read_until(b'\n', &mut text)? == 0 {
            return Ok(());
        }
        number = number.saturating_add(1);
        if let Err(why) = next(&text, public, chain, report) {
            report.broken =
                Some(Broken { seq: chain.next, file: path.display().to_string(), line: number, why });
            return Ok(());
        }
    }
}

fn next(text: &[u8], public: &[u8], chain: &mut Chain, report: &mut Report) -> Result<(), String> {
    let text = text.strip_suffix(b"\n").ok_or("the line is cut off")?;
    let value: Value = serde_json::from_slice(text).map_err(|_| "it is no JSON".to_owned())?;
    if line::canonical(&value).as_bytes() != text {
        return Err("it is not written as this program writes it".to_owned());
    }
    if value.get("type").and_then(Value::as_str) == Some("seal") {
        let sealed = Sealed {
            seq: chain.next.saturating_sub(1),
            hash: chain.prev,
            count: chain.unsealed,
            prev: chain.prev_seal,
        };
        chain.prev_seal = sealed.verify(CHAIN, &value, public)?;
        chain.unsealed = 0;
        report.seals = report.seals.saturating_add(1);
        return Ok(());
    }
    chain.prev = line::check(&value, CHAIN, chain.next, &chain.prev)?;
    chain.next = chain.next.saturating_add(1);
    chain.unsealed = chain.unsealed.saturating_add(1);
    report.lines = report.lines.saturating_add(1);
    Ok(())
}
