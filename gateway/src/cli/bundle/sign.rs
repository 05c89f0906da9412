//! `turnout bundle keygen`, `sign` and `verify`: who vouches for the files of a bundle.

use super::super::out::Out;
use super::super::{FAILED, GOOD, Outcome, Problem};
use crate::config::server::{self, PublicKey, Server};
use crate::config::signature::{self, Signature};
use crate::config::sources::SIGNATURE;
use crate::config::{Source, Sources, report};
use crate::control::secret;
use crate::signing::PrivateKey;
use serde_json::json;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use types::Severity;
use zeroize::Zeroizing;

#[derive(clap::Args, Debug)]
pub(super) struct Keygen {
    /// Where the private key goes; only its owner can read it
    file: PathBuf,
}

#[derive(clap::Args, Debug)]
pub(super) struct Sign {
    /// The folder; `turnout.yaml` in it is left out
    folder: PathBuf,
    /// The private key
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Who signs, for people
    #[arg(long, default_value = "")]
    author: String,
    /// Why, for people
    #[arg(long, default_value = "")]
    message: String,
}

#[derive(clap::Args, Debug)]
pub(super) struct Verify {
    /// The folder
    folder: PathBuf,
    /// A public key that counts, once or several times [default: `bundles.require_signature` of its `turnout.yaml`]
    #[arg(long, value_name = "HEX")]
    public_key: Vec<String>,
}

pub(super) fn keygen(args: &Keygen, out: &Out) -> Outcome {
    let file = args.file.display();
    let wrong = |e: std::io::Error| Problem(format!("{file}: {e}"));
    let seed = Zeroizing::new(secret::random()?);
    let text = PrivateKey::text_of(&seed);
    let key = PrivateKey::parse(&text).ok_or_else(|| Problem("no key could be made".to_owned()))?;
    let mut written = secret::create_private(&args.file).map_err(wrong)?;
    written.write_all(format!("{}\n", *text).as_bytes()).and_then(|()| written.sync_all()).map_err(wrong)?;
    let public = key.public().to_string();
    if out.json {
        out.value(&json!({ "private_key": file.to_string(), "public_key": public }));
        return Ok(GOOD);
    }
    out.line(&format!("{file} holds the private key; keep it where bundles are signed, not on the server"));
    out.line(&format!("the server's turnout.yaml:  bundles: {{ require_signature: [\"{public}\"] }}"));
    Ok(GOOD)
}

pub(super) fn sign(args: &Sign, out: &Out) -> Outcome {
    let key = private_key(&args.key)?;
    let sources = read(&args.folder)?;
    let files = sources.written();
    // A folder of settings alone is a configuration: everything else of it is built in.
    if files.keys().all(|path| path == SIGNATURE) && sources.settings.is_none() {
        return Err(Problem(format!("{} holds no file of a configuration", args.folder.display())));
    }
    let made = Signature::over(&files, &args.author, &args.message, &key);
    let path = args.folder.join(SIGNATURE);
    std::fs::write(&path, made.text()).map_err(|e| Problem(format!("{}: {e}", path.display())))?;
    if out.json {
        out.value(&serde_json::to_value(&made)?);
        return Ok(GOOD);
    }
    let names = made.files.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
    let what = if names.is_empty() { "no file, so for what is built in alone" } else { &names };
    out.line(&format!("{} vouches for {what}", path.display()));
    out.line(&format!("key     {}", made.key));
    Ok(GOOD)
}

pub(super) fn verify(args: &Verify, out: &Out) -> Outcome {
    let sources = read(&args.folder)?;
    let keys = match args.public_key.as_slice() {
        [] => keys_of(&sources)?,
        given => given.iter().map(|text| public_key(text)).collect::<Result<_, _>>()?,
    };
    match signature::check(&sources, &keys) {
        Ok(Some(signer)) => {
            let files = sources.written().len().saturating_sub(1);
            if out.json {
                out.value(&json!({ "good": true, "key": signer.key.to_string(), "author": signer.author, "files": files }));
            } else {
                let author = if signer.author.is_empty() { "nobody by name" } else { &signer.author };
                out.line(&format!(
                    "{files} files are as they were signed, by {author} with the key {}",
                    signer.key
                ));
            }
            Ok(GOOD)
        }
        Ok(None) => Err(Problem("no key was named".to_owned())),
        Err(problems) if out.json => {
            out.value(&json!({ "good": false, "problems": problems }));
            Ok(FAILED)
        }
        Err(problems) => Err(Problem(report(&problems, &[], false))),
    }
}

fn read(folder: &Path) -> Result<Sources, Problem> {
    let (sources, problems) = Source::Folder(folder.to_owned()).read();
    match problems.iter().any(|d| d.severity == Severity::Error) {
        true => Err(Problem(report(&problems, &[], false))),
        false => Ok(sources),
    }
}

fn private_key(path: &Path) -> Result<PrivateKey, Problem> {
    let text = secret::read_private(path).map_err(|e| Problem(format!("{}: {e}", path.display())))?;
    PrivateKey::parse(&text).ok_or_else(|| {
        let path = path.display();
        Problem(format!(
            "{path} holds no private key: 64 hexadecimal digits, as `turnout bundle keygen` writes them"
        ))
    })
}

fn public_key(text: &str) -> Result<PublicKey, Problem> {
    PublicKey::parse(text)
        .ok_or_else(|| Problem(format!("`{text}` is no public key: 64 hexadecimal digits are")))
}

/// The keys that the settings beside the files name.
fn keys_of(sources: &Sources) -> Result<Vec<PublicKey>, Problem> {
    let mut server = Server::default();
    if let Some(file) = &sources.settings {
        let problems = server::apply_file(&mut server, file);
        if problems.iter().any(|d| d.severity == Severity::Error) {
            return Err(Problem(report(&problems, std::slice::from_ref(file), false)));
        }
    }
    let keys = server.bundles.require_signature;
    if keys.is_empty() {
        let text = "which key counts? give --public-key HEX; no turnout.yaml beside the files names one in \
                    `bundles.require_signature`";
        return Err(Problem(text.to_owned()));
    }
    Ok(keys)
}
