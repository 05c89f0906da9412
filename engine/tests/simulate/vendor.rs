//! Vendors that answer, fail, hang and break off as a seed says, and bill what they wrote, not what was read of it.

use crate::book::{Bill, Book};
use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::{self, StreamExt};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::sleep;
use types::chat::ResponseFormat;
use types::completion::{Choice, Delta};
use types::matrix::Tier;
use types::provider::{Call, ChatProvider, Error, ErrorKind, Reply};
use types::{Chunk, Completion, FinishReason, Usage};

/// How bad things are: of a hundred calls so many go wrong.
const WEATHER: [u32; 4] = [0, 10, 35, 90];

/// All vendors of a run.
pub(crate) struct Vendors {
    book: Arc<Book>,
    chance: Mutex<Chance>,
}

struct Chance {
    rng: StdRng,
    /// By provider.
    weather: [u32; 5],
}

/// What becomes of a call.
struct Fate {
    /// Before anything comes.
    wait: Duration,
    /// Between pieces.
    gap: Duration,
    /// Words of the answer.
    words: u32,
    /// So many pieces come before it goes wrong; `None` = it does not.
    breaks: Option<(u32, Wrong)>,
    /// What it writes after nobody reads it any more.
    unread: u32,
    tells_with_error: bool,
    /// It never says what it used.
    silent: bool,
}

#[derive(Clone, Copy)]
enum Wrong {
    Error(ErrorKind, Option<u64>),
    Hang,
}

/// What goes wrong before anything came.
const BEFORE: [ErrorKind; 14] = [
    ErrorKind::Connect,
    ErrorKind::FirstTokenTimeout,
    ErrorKind::TotalTimeout,
    ErrorKind::RateLimited,
    ErrorKind::RateLimited,
    ErrorKind::Unavailable,
    ErrorKind::Unavailable,
    ErrorKind::StreamLost,
    ErrorKind::Malformed,
    ErrorKind::TooLarge,
    ErrorKind::BadRequest,
    ErrorKind::Auth,
    ErrorKind::Quota,
    ErrorKind::ContextOverflow,
];
/// What goes wrong in the middle of an answer.
const AMID: [ErrorKind; 5] = [
    ErrorKind::StreamLost,
    ErrorKind::StreamLost,
    ErrorKind::InterTokenTimeout,
    ErrorKind::Unavailable,
    ErrorKind::Malformed,
];

/// Whether a vendor that gives up so has worked, and bills it.
const fn works(kind: ErrorKind) -> bool {
    use ErrorKind as K;
    matches!(
        kind,
        K::FirstTokenTimeout
            | K::InterTokenTimeout
            | K::TotalTimeout
            | K::StreamLost
            | K::Malformed
            | K::TooLarge
    )
}

impl Vendors {
    pub(crate) fn new(book: &Arc<Book>, seed: u64) -> Arc<Vendors> {
        let chance = Chance { rng: StdRng::seed_from_u64(seed), weather: [WEATHER[1]; 5] };
        Arc::new(Vendors { book: book.clone(), chance: Mutex::new(chance) })
    }

    /// The weather changes.
    pub(crate) fn turn(&self) {
        let mut chance = self.chance.lock().unwrap();
        let Chance { rng, weather } = &mut *chance;
        for w in weather.iter_mut() {
            *w = WEATHER[rng.random_range(0..WEATHER.len())];
        }
        let now = *weather;
        drop(chance);
        self.book.say(format!("weather {now:?}"));
    }

    fn fate(&self, provider: usize) -> Fate {
        let mut chance = self.chance.lock().unwrap();
        let Chance { rng, weather } = &mut *chance;
        let ms = |rng: &mut StdRng, most: u64| Duration::from_millis(rng.random_range(0..most));
        let goes_wrong = rng.random_range(0..100) < weather[provider % 5];
        let breaks = goes_wrong.then(|| {
            let after = if rng.random_bool(0.5) { 0 } else { rng.random_range(1..12) };
            let kinds: &[ErrorKind] = if after == 0 { &BEFORE } else { &AMID };
            let wrong = match rng.random_range(0..6) {
                0 => Wrong::Hang,
                _ => {
                    let wait = rng.random_bool(0.3).then(|| rng.random_range(0..20));
                    Wrong::Error(kinds[rng.random_range(0..kinds.len())], wait)
                }
            };
            (after, wrong)
        });
        Fate {
            wait: ms(rng, 900),
            gap: if rng.random_bool(0.1) { ms(rng, 5_000) } else { ms(rng, 60) },
            words: rng.random_range(3..120),
            breaks,
            unread: rng.random_range(0..2_000),
            tells_with_error: rng.random_bool(0.2),
            silent: rng.random_bool(0.1),
        }
    }
}

/// What a call has come to so far; however it ends, it is billed once.
struct Meter {
    book: Arc<Book>,
    bill: usize,
    call: Arc<Call>,
    input: u32,
    output: u32,
    longest: u32,
    /// What it writes after nobody reads any more; 0 once it has ended by itself.
    unread: u32,
    ended: bool,
}

impl Meter {
    fn usage(&self) -> Usage {
        Usage { input: self.input, output: self.output, ..Usage::default() }
    }

    fn bills(&self, usage: Usage) {
        let free = self.call.provider.tier == Tier::Free;
        let price = self.call.model.price.filter(|_| !free);
        let usd = price.map_or(0, |p| u64::try_from(p.cost(&usage).nanos()).unwrap());
        self.book.facts().bills[self.bill].usd = usd;
    }

    /// It ends by itself.
    fn ends(&mut self, usage: Usage, told: bool, whole: bool) {
        self.ended = true;
        self.bills(usage);
        let mut facts = self.book.facts();
        let bill = &mut facts.bills[self.bill];
        bill.told = told.then_some(usage);
        bill.whole = whole;
    }

    /// It fails with what it has written so far.
    fn fails(&mut self, kind: ErrorKind, wait: Option<u64>, tells: bool) -> Error {
        // Of an answer that comes whole nothing was given away before; a refusal is not billed.
        let worked = works(kind) || (self.call.stream && self.output > 0);
        if worked && works(kind) {
            self.output = self.output.saturating_add(self.unread).min(self.longest);
        }
        let usage = if worked { self.usage() } else { Usage::default() };
        let tells = tells && worked;
        self.ends(usage, tells, false);
        let mut error = Error::new(kind, &self.call.model, "as the seed says");
        error.retry_after = wait.map(Duration::from_secs);
        if tells { error.with_used(Some(usage)) } else { error }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        if !self.ended {
            // Nobody tells it to stop before it has written some more.
            self.output = self.output.saturating_add(self.unread).min(self.longest);
            self.bills(self.usage());
        }
        self.book.facts().in_flight -= 1;
    }
}

/// Bytes of all texts that go out in a call.
fn bytes(call: &Call) -> usize {
    let messages = call.edits.messages.as_ref().unwrap_or(&call.request.messages);
    messages.iter().flat_map(|m| m.content.texts()).map(str::len).sum()
}

/// The request that a call belongs to.
fn request_of(call: &Call) -> &str {
    call.id.split('.').next().unwrap()
}

impl ChatProvider for Vendors {
    fn call(&self, call: Call) -> BoxFuture<'static, Result<Reply, Error>> {
        let fate = self.fate(call.model.provider);
        let book = self.book.clone();
        let request = request_of(&call).to_owned();
        let asked = book.facts().asked.get(&request).cloned();
        let Some(asked) = asked else {
            book.wrong(format!("a call for {request}, which nobody asked: {}", call.id));
            return async move { Err(Error::new(ErrorKind::BadRequest, &call.model, "nobody's")) }.boxed();
        };
        book.say(format!(
            "call {} of {}{}",
            call.id,
            call.model.id,
            if call.stream { ", streamed" } else { "" }
        ));
        book.must(!asked.never.contains(&*call.model.id), || {
            format!("{} was called for {request}, which excludes it", call.model.id)
        });
        for message in call.edits.messages.as_ref().unwrap_or(&call.request.messages) {
            for text in message.content.texts() {
                book.must(crate::clients::is_of(text, asked.tenant), || {
                    format!("{request} of {} tells a vendor: {text}", asked.tenant)
                });
            }
        }
        let longest = call.edits.max_tokens.or(call.request.params.max_tokens);
        let longest = longest.unwrap_or(call.model.max_output_tokens);
        let bill = {
            let mut facts = book.facts();
            facts.in_flight += 1;
            let model = call.model.id.clone();
            facts.bills.push(Bill { request, model, usd: 0, told: None, whole: false });
            facts.bills.len() - 1
        };
        let input = u32::try_from(bytes(&call) / 4).unwrap();
        let call = Arc::new(call);
        let unread = fate.unread;
        let meter = Meter { book, bill, call, input, output: 0, longest, unread, ended: false };
        answer(meter, fate, asked.tenant).boxed()
    }
}

/// The words of an answer. Each is one token, and none has less than four bytes.
fn words(call: &Call, tenant: &str, n: u32) -> Vec<String> {
    let format = call.edits.response_format.as_ref().unwrap_or(&call.request.response_format);
    if !matches!(format, ResponseFormat::Text) {
        let json = format!("{{\"name\": \"tenant:{tenant}\", \"score\": {}}}", f64::from(n % 10) / 10.0);
        // Now and then it is none, and has to be mended.
        let cut = if n.is_multiple_of(5) { json.len() - 6 } else { json.len() };
        return json.as_bytes()[..cut].chunks(6).map(|b| String::from_utf8(b.to_vec()).unwrap()).collect();
    }
    let of = request_of(call);
    let first = format!("tenant:{tenant} of {of}");
    let more = (0..n).map(|i| format!(" word{i}"));
    std::iter::once(first).chain(more).chain([" [end]".to_owned()]).collect()
}

async fn answer(mut meter: Meter, fate: Fate, tenant: &'static str) -> Result<Reply, Error> {
    let call = meter.call.clone();
    sleep(fate.wait).await;
    if let Some((0, wrong)) = fate.breaks {
        match wrong {
            Wrong::Hang => std::future::pending::<()>().await,
            Wrong::Error(kind, wait) => return Err(meter.fails(kind, wait, fate.tells_with_error)),
        }
    }
    let all = words(&call, tenant, fate.words);
    let fits = usize::try_from(meter.longest).unwrap().min(all.len());
    let finish = if fits < all.len() { FinishReason::Length } else { FinishReason::Stop };
    let given: Vec<String> = all[..fits].to_vec();
    if !call.stream {
        if let Some((after, wrong)) = fate.breaks {
            meter.output = after.min(u32::try_from(fits).unwrap());
            sleep(fate.gap * after).await;
            match wrong {
                Wrong::Hang => std::future::pending::<()>().await,
                Wrong::Error(kind, wait) => return Err(meter.fails(kind, wait, fate.tells_with_error)),
            }
        }
        sleep(fate.gap * u32::try_from(fits).unwrap()).await;
        meter.output = u32::try_from(fits).unwrap();
        let (usage, text) = (meter.usage(), given.concat());
        meter.book.facts().texts.entry(tenant).or_default().insert(text.clone());
        meter.ends(usage, !fate.silent, true);
        return Ok(Reply::Whole(Completion {
            id: "c".into(),
            created: 1,
            model: call.model.upstream_name.clone(),
            choices: vec![Choice { text, finish_reason: Some(finish), ..Choice::default() }],
            usage: if fate.silent { Usage::default() } else { usage },
            ..Completion::default()
        }));
    }
    let text = given.concat();
    let state = (meter, given.into_iter().enumerate(), false);
    let items = stream::unfold(state, move |(mut meter, mut left, over)| {
        let (finish, text) = (finish.clone(), text.clone());
        async move {
            if over {
                return None;
            }
            sleep(fate.gap).await;
            let next = left.next();
            if let (Some((i, _)), Some((after, wrong))) = (&next, fate.breaks)
                && *i >= usize::try_from(after).unwrap()
            {
                match wrong {
                    Wrong::Hang => std::future::pending::<()>().await,
                    Wrong::Error(kind, wait) => {
                        let e = meter.fails(kind, wait, fate.tells_with_error);
                        return Some((Err(e), (meter, left, true)));
                    }
                }
            }
            match next {
                Some((_, word)) => {
                    meter.output += 1;
                    let delta = Delta { text: Some(word), ..Delta::default() };
                    Some((Ok(Chunk { choices: vec![delta], ..Chunk::default() }), (meter, left, false)))
                }
                None => {
                    let usage = meter.usage();
                    meter.book.facts().texts.entry(tenant).or_default().insert(text);
                    meter.ends(usage, !fate.silent, true);
                    let delta = Delta { finish_reason: Some(finish), ..Delta::default() };
                    let chunk = Chunk {
                        choices: vec![delta],
                        usage: (!fate.silent).then_some(usage),
                        ..Chunk::default()
                    };
                    Some((Ok(chunk), (meter, left, true)))
                }
            }
        }
    });
    Ok(Reply::Stream(items.boxed()))
}
