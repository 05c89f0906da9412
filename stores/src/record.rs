//! What a record is in the log: few bytes, quickly written, and read in part.
//!
//! ```text
//! request   1, hash of its constants (16 bytes; zeros = none), length of the outcome (u32 LE),
//!           outcome, then decision and run                               MessagePack, members by name
//! constants 2, their hash, what is no candidate under a configuration    MessagePack
//! begun     3, a call that is about to be made                           MessagePack
//! erased    4, a request of which only the outcome is left, laid out like a request; zeros in the place of the rest
//! the rest  JSON, as is any record of a version before these forms       begins with `{`
//! ```
//!
//! The outcome stands apart because it is all that the mover reads. What is constant under a configuration
//! can be longer than everything else, so it is written once and named by its hash.

use serde::Serialize;
use std::sync::Arc;
use types::begun::Begun;
use types::decision::{Exclusion, LONGEST};
use types::outcome::{Feedback, Late, Outcome};
use types::store::{Error, Record, RequestRecord};

const REQUEST: u8 = 1;
const CONSTANTS: u8 = 2;
const BEGUN: u8 = 3;
const ERASED: u8 = 4;
const JSON: u8 = b'{';

/// Bytes of a request before its outcome.
const FIXED: usize = 1 + 16 + 4;

/// Names what is constant under a configuration: the start of the hash of its bytes.
pub(crate) type Hash = [u8; 16];

const NOTHING: Hash = [0; 16];

/// What is constant under a configuration, as it is written.
pub(crate) struct Constants {
    /// What it was made from; the same pointer means the same content.
    of: Arc<Vec<Exclusion>>,
    pub(crate) hash: Hash,
    pub(crate) payload: Vec<u8>,
}

impl Constants {
    /// Those of a record; `None` = it has none. `known` are those of an earlier one, which often fit.
    ///
    /// # Errors
    /// They cannot be written.
    pub(crate) fn of(
        record: &RequestRecord,
        known: Option<&Arc<Constants>>,
    ) -> Result<Option<Arc<Constants>>, Error> {
        let all = &record.decision.unavailable;
        if all.is_empty() {
            return Ok(None);
        }
        if let Some(known) = known.filter(|k| Arc::ptr_eq(&k.of, all)) {
            return Ok(Some(Arc::clone(known)));
        }
        let content = rmp_serde::to_vec_named(&**all).map_err(written)?;
        let mut hash = NOTHING;
        hash.copy_from_slice(blake3::hash(&content).as_bytes().first_chunk::<16>().unwrap_or(&NOTHING));
        let payload = [&[CONSTANTS][..], &hash, &content].concat();
        Ok(Some(Arc::new(Constants { of: Arc::clone(all), hash, payload })))
    }
}

/// Appends a record to `buf`.
///
/// # Errors
/// It cannot be written, or is longer than four gigabytes.
pub(crate) fn write(record: &Record, constants: Option<&Constants>, buf: &mut Vec<u8>) -> Result<(), Error> {
    let request = match record {
        Record::Request(request) => request,
        Record::Begun(begun) => {
            buf.push(BEGUN);
            return put(buf, begun);
        }
        Record::Feedback(_) | Record::Late(_) | Record::GoBack(_) => {
            return serde_json::to_writer(buf, record).map_err(|e| Error::Io(e.into()));
        }
    };
    let start = buf.len();
    buf.push(REQUEST);
    buf.extend_from_slice(constants.map_or(&NOTHING, |c| &c.hash));
    buf.extend_from_slice(&[0; 4]);
    put(buf, &request.outcome)?;
    let length = buf.len().saturating_sub(start + FIXED);
    let length = u32::try_from(length).map_err(|e| Error::Io(std::io::Error::other(e)))?;
    if let Some(place) = buf.get_mut(start + FIXED - 4..start + FIXED) {
        place.copy_from_slice(&length.to_le_bytes());
    }
    let before = buf.len();
    put(buf, &(&request.decision, &request.run))?;
    if buf.len().saturating_sub(before) > LONGEST {
        let (decision, run) = request.decision.shortened(&request.run, |decision, run| {
            let written = rmp_serde::to_vec_named(&(decision, run));
            written.is_ok_and(|bytes| bytes.len() <= LONGEST)
        });
        buf.truncate(before);
        put(buf, &(&decision, &run))?;
    }
    Ok(())
}

fn put(buf: &mut Vec<u8>, value: &impl Serialize) -> Result<(), Error> {
    rmp_serde::encode::write_named(buf, value).map_err(written)
}

#[expect(clippy::needless_pass_by_value, reason = "the form that `map_err` takes")]
fn written(error: rmp_serde::encode::Error) -> Error {
    Error::Io(std::io::Error::other(error.to_string()))
}

/// A record, as far as the mover reads it.
pub(crate) enum Head<'a> {
    Request(Box<Outcome>),
    /// A request whose record was erased.
    Erased(Box<Outcome>),
    Feedback(Feedback),
    Late(Late),
    GoBack(i64),
    Constants(Hash, &'a [u8]),
    /// As [`begun`] reads it, and of which request it is; whether it is made after the response.
    Begun(String, bool, &'a [u8]),
}

/// Reads the part of a record that rows are made of.
///
/// # Errors
/// In words, what makes no sense.
pub(crate) fn head(payload: &[u8]) -> Result<Head<'_>, String> {
    match payload.first() {
        Some(&REQUEST) => apart(payload).map(|o| Head::Request(Box::new(o))),
        Some(&ERASED) => apart(payload).map(|o| Head::Erased(Box::new(o))),
        Some(&CONSTANTS) => {
            let (hash, content) =
                payload.get(1..).and_then(<[u8]>::split_first_chunk).ok_or("constants are cut short")?;
            Ok(Head::Constants(*hash, content))
        }
        Some(&BEGUN) => {
            let content = payload.get(1..).unwrap_or_default();
            begun(content).map(|b| Head::Begun(b.of.request_id.clone(), b.late, content))
        }
        Some(&JSON) => match serde_json::from_slice(payload).map_err(|e| e.to_string())? {
            old::Head::Request(head) => Ok(Head::Request(Box::new(head.outcome))),
            old::Head::Feedback(word) => Ok(Head::Feedback(word)),
            old::Head::Late(late) => Ok(Head::Late(late)),
            old::Head::GoBack(saved) => Ok(Head::GoBack(saved)),
        },
        _ => Err("a record of a form that this version does not know".to_owned()),
    }
}

/// The outcome that stands apart in a request.
fn apart(payload: &[u8]) -> Result<Outcome, String> {
    let parts = split(payload).ok_or("a request is cut short")?;
    rmp_serde::from_slice(parts.outcome).map_err(|e| e.to_string())
}

/// The outcome of a request as it was written, or as much of it as an erased record holds.
///
/// # Errors
/// In words, what makes no sense.
pub(crate) fn outcome(payload: &[u8]) -> Result<Outcome, String> {
    match head(payload)? {
        Head::Request(outcome) | Head::Erased(outcome) => Ok(*outcome),
        Head::Feedback(_) | Head::Late(_) | Head::GoBack(_) | Head::Constants(..) | Head::Begun(..) => {
            Err("it is none of a request".to_owned())
        }
    }
}

/// A request as it was written, and the hash of its constants, which the caller puts in.
///
/// # Errors
/// In words, what makes no sense.
pub(crate) fn request(payload: &[u8]) -> Result<(RequestRecord, Option<Hash>), String> {
    if payload.first() == Some(&JSON) {
        return match serde_json::from_slice(payload).map_err(|e| e.to_string())? {
            Record::Request(record) => Ok((*record, None)),
            Record::Feedback(_) | Record::Late(_) | Record::Begun(_) | Record::GoBack(_) => {
                Err("it is none of a request".to_owned())
            }
        };
    }
    let parts =
        split(payload).filter(|_| payload.first() == Some(&REQUEST)).ok_or("it is none of a request")?;
    let outcome = rmp_serde::from_slice(parts.outcome).map_err(|e| e.to_string())?;
    let (decision, run) = rmp_serde::from_slice(parts.rest).map_err(|e| e.to_string())?;
    Ok((RequestRecord { decision, run, outcome }, (parts.hash != NOTHING).then_some(parts.hash)))
}

/// What is to stand in the place of a record that is erased, not longer than that: a request keeps the figures of its
/// outcome, a word its score. `None` = there is nothing in it that has to go.
///
/// # Errors
/// In words, what makes no sense.
pub(crate) fn erased(payload: &[u8]) -> Result<Option<Vec<u8>>, String> {
    let left = match head(payload)? {
        Head::Request(outcome) => figures(&outcome.figures())?,
        Head::Feedback(word) if word.reason.is_some() => {
            let left = Record::Feedback(Feedback { reason: None, ..word });
            serde_json::to_vec(&left).map_err(|e| e.to_string())?
        }
        Head::Feedback(_)
        | Head::Erased(_)
        | Head::Late(_)
        | Head::GoBack(_)
        | Head::Constants(..)
        | Head::Begun(..) => return Ok(None),
    };
    match left.len() <= payload.len() {
        true => Ok(Some(left)),
        false => Err(format!("{} bytes are to stay of {}", left.len(), payload.len())),
    }
}

/// An erased request up to where its zeros begin.
fn figures(outcome: &Outcome) -> Result<Vec<u8>, String> {
    let outcome = rmp_serde::to_vec_named(outcome).map_err(|e| e.to_string())?;
    let length = u32::try_from(outcome.len()).map_err(|e| e.to_string())?;
    Ok([&[ERASED][..], &NOTHING, &length.to_le_bytes(), &outcome].concat())
}

/// What an erased record is filled up with to its length: blanks where it is JSON, else zeros.
pub(crate) fn filling(left: &[u8]) -> u8 {
    if left.first() == Some(&JSON) { b' ' } else { 0 }
}

/// What constants say.
///
/// # Errors
/// In words, what makes no sense.
pub(crate) fn constants(content: &[u8]) -> Result<Vec<Exclusion>, String> {
    rmp_serde::from_slice(content).map_err(|e| e.to_string())
}

/// What was written before a call.
///
/// # Errors
/// In words, what makes no sense.
pub(crate) fn begun(content: &[u8]) -> Result<Begun, String> {
    rmp_serde::from_slice(content).map_err(|e| e.to_string())
}

struct Parts<'a> {
    hash: Hash,
    outcome: &'a [u8],
    rest: &'a [u8],
}

fn split(payload: &[u8]) -> Option<Parts<'_>> {
    let (hash, rest) = payload.get(1..)?.split_first_chunk()?;
    let (length, rest) = rest.split_first_chunk()?;
    let (outcome, rest) = rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
    Some(Parts { hash: *hash, outcome, rest })
}

/// Records as JSON, as far as rows are made of them.
mod old {
    use serde::Deserialize;
    use types::outcome::{Feedback, Late, Outcome};

    #[derive(Deserialize)]
    #[serde(rename_all = "snake_case")]
    pub(super) enum Head {
        Request(Box<RequestHead>),
        Feedback(Feedback),
        Late(Late),
        GoBack(i64),
    }

    #[derive(Deserialize)]
    pub(super) struct RequestHead {
        pub(super) outcome: Outcome,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    fn written(record: &Record) -> Vec<u8> {
        let mut buf = b"before".to_vec();
        let constants = match record {
            Record::Request(r) => Constants::of(r, None).unwrap(),
            Record::Feedback(_) | Record::Late(_) | Record::Begun(_) | Record::GoBack(_) => None,
        };
        write(record, constants.as_deref(), &mut buf).unwrap();
        buf.split_off(6)
    }

    #[test]
    fn a_request_comes_back_as_it_was_and_its_outcome_alone() {
        let mut wanted = samples::request("r", 7);
        let payload = written(&Record::Request(Box::new(wanted.clone())));
        assert_eq!(outcome(&payload).unwrap(), wanted.outcome);
        assert_eq!(request(&payload).unwrap(), (wanted.clone(), None));
        assert!(payload.len() < serde_json::to_vec(&wanted).unwrap().len() * 3 / 4, "{}", payload.len());

        let exclusion = Exclusion {
            model: "p/m".into(),
            workflow: None,
            reason: "no_key".into(),
            rule: Some("r".into()),
            detail: Some("KEY".to_owned()),
            passes_ms: None,
        };
        wanted.decision.unavailable = Arc::new(vec![exclusion]);
        let payload = written(&Record::Request(Box::new(wanted.clone())));
        let (without, hash) = request(&payload).unwrap();
        assert!(without.decision.unavailable.is_empty());
        let told = Constants::of(&wanted, None).unwrap().unwrap();
        assert_eq!(hash, Some(told.hash));
        let Ok(Head::Constants(hash, content)) = head(&told.payload) else { panic!("no constants") };
        assert_eq!((hash, constants(content).unwrap()), (told.hash, (*wanted.decision.unavailable).clone()));
    }

    #[test]
    fn a_record_that_would_be_too_long_says_what_it_leaves_out() {
        let mut wanted = samples::request("r", 7);
        let rule = |i: usize, result| types::directives::RuleRecord {
            id: format!("rule_{i:05}").into(),
            layer: types::directives::Layer::Platform,
            result,
            detail: None,
            because: Some("workload.task_family == \"coding\"".into()),
        };
        let d = &mut wanted.decision;
        d.rules = (0..1_000).map(|i| rule(i, types::directives::RuleResult::NotMatched)).collect();
        d.rules.push(rule(1_000, types::directives::RuleResult::Matched));
        d.arms = vec![d.arms[0].clone(); 5_000];
        d.arms[4_000].workflow = "the chosen one".into();
        d.chosen = Some(4_000);
        let short = samples::request("r", 7);
        let (told, payload) = {
            let payload = written(&Record::Request(Box::new(wanted.clone())));
            (request(&payload).unwrap().0, payload)
        };
        assert!(payload.len() < LONGEST + 4_096, "{}", payload.len());
        assert_eq!(told.outcome, wanted.outcome);
        assert_eq!(told.decision.rules.len(), 1);
        assert_eq!(told.decision.choice().map(|a| &*a.workflow), Some("the chosen one"));
        let left: Vec<_> = told.decision.left_out.iter().map(|(k, n)| (&**k, *n)).collect();
        assert_eq!(left, [("arms", 4_967), ("rules", 1_000)]);
        assert_eq!(told.run, short.run, "what fits stays");
    }

    #[test]
    fn a_call_that_begins_is_no_request_and_says_of_which_one_it_is() {
        let wanted = samples::begun("r", 7);
        let payload = written(&Record::Begun(wanted.clone()));
        let Ok(Head::Begun(id, late, content)) = head(&payload) else { panic!("no call") };
        assert_eq!((id.as_str(), late, begun(content)), ("r", false, Ok(wanted)));
        assert!(outcome(&payload).is_err() && request(&payload).is_err());
    }

    #[test]
    fn what_an_earlier_version_wrote_is_read() {
        let record = samples::request_line("r", 7);
        let json = serde_json::to_vec(&record).unwrap();
        let Record::Request(wanted) = record else { panic!("no request") };
        assert_eq!(outcome(&json).unwrap(), wanted.outcome);
        assert_eq!(request(&json).unwrap(), (*wanted, None));
        let word = samples::word_line("r", "user", 40);
        assert_eq!(written(&word), serde_json::to_vec(&word).unwrap());
        assert!(matches!(head(&written(&word)), Ok(Head::Feedback(_))));
        assert!(outcome(&written(&word)).is_err() && request(&written(&word)).is_err());
    }

    #[test]
    fn what_stays_of_an_erased_record_are_figures() {
        let has = |bytes: &[u8], mark: &str| bytes.windows(mark.len()).any(|w| w == mark.as_bytes());
        let request_line = samples::expiring("r", 7, 9, "marginalia");
        let Record::Request(wanted) = &request_line else { panic!("no request") };
        let whole = written(&request_line);
        let left = erased(&whole).unwrap().unwrap();
        assert!(has(&whole, "marginalia") && !has(&left, "marginalia") && left.len() < whole.len());
        let mut filled = left.clone();
        filled.resize(whole.len(), filling(&left));
        assert_eq!(outcome(&filled).unwrap(), wanted.outcome.clone().figures());
        assert!(matches!(head(&filled), Ok(Head::Erased(_))));
        assert!(request(&filled).is_err(), "never half a record");
        assert_eq!(erased(&filled), Ok(None), "once is enough");

        let whole = written(&samples::saying("r", "user", 40, "marginalia"));
        let mut filled = erased(&whole).unwrap().unwrap();
        filled.resize(whole.len(), filling(&filled));
        let Ok(Head::Feedback(word)) = head(&filled) else { panic!("no word") };
        assert_eq!(word, samples::word("r", "user", 40));
        for nothing in [samples::word_line("r", "user", 40), Record::Begun(samples::begun("r", 7))] {
            assert_eq!(erased(&written(&nothing)), Ok(None));
        }
    }

    #[test]
    fn what_makes_no_sense_says_so() {
        let whole = written(&samples::request_line("r", 7));
        for cut in 0..whole.len() {
            let part = whole.get(..cut).unwrap();
            assert!(request(part).is_err(), "{cut} of {}", whole.len());
        }
        for bytes in [&b""[..], b"\x07x", b"{}", b"\x02short", b"\x01", b"\x03x"] {
            assert!(head(bytes).is_err() && request(bytes).is_err(), "{bytes:?}");
        }
    }
}
