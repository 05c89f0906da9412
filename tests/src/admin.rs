//! The control API of a house as its own user, and a race of many requests against a budget.

use crate::client::{Client, Response};
use crate::house::House;
use crate::vendor::{Reply, Vendor};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::task::JoinSet;

/// The control API of a house, as its own user.
pub struct Admin {
    client: Client,
    /// The token that the server leaves in its data folder.
    pub token: String,
}

impl Admin {
    /// That of a house which keeps data.
    #[must_use]
    pub fn of(house: &House) -> Admin {
        let read =
            |name: &str| std::fs::read_to_string(house.folder().path().join("data").join(name)).unwrap();
        Admin {
            client: Client(read("admin").trim().parse().unwrap()),
            token: read("admin.token").trim().to_owned(),
        }
    }

    /// One request as the server's own user; `null` = without a body.
    pub async fn call(&self, method: &str, path: &str, body: &Value) -> Response {
        self.call_as(&self.token, method, path, body).await
    }

    /// One request with a key.
    pub async fn call_as(&self, key: &str, method: &str, path: &str, body: &Value) -> Response {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.bytes(key, method, path, "application/json", body.as_bytes()).await
    }

    /// One request with a key and a body that need not be JSON.
    pub async fn bytes(&self, key: &str, method: &str, path: &str, kind: &str, body: &[u8]) -> Response {
        let auth = format!("Bearer {key}");
        let headers = [("authorization", auth.as_str()), ("content-type", kind)];
        self.client.send(method, &format!("/admin/v1{path}"), &headers, body).await
    }

    /// Makes a tenant.
    pub async fn tenant(&self, spec: Value) {
        let made = self.call("POST", "/tenants", &spec).await;
        assert_eq!(made.status, 201, "{}", made.text());
    }

    /// Makes a key: its id and text.
    pub async fn key(&self, spec: Value) -> (String, String) {
        let made = self.call("POST", "/keys", &spec).await;
        assert_eq!(made.status, 201, "{}", made.text());
        let made = made.json();
        (made["id"].as_str().unwrap().to_owned(), made["key"].as_str().unwrap().to_owned())
    }
}

/// Sends a body with a key.
pub async fn send(client: Client, key: &str, path: &str, body: &Value) -> Response {
    let auth = format!("Bearer {key}");
    let headers = [("authorization", auth.as_str()), ("content-type", "application/json")];
    client.send("POST", path, &headers, body.to_string().as_bytes()).await
}

/// Asks with a key.
pub async fn get(client: Client, key: &str, path: &str) -> Response {
    client.send("GET", path, &[("authorization", &format!("Bearer {key}"))], b"").await
}

/// Every file below a folder: its path and its bytes.
#[must_use]
pub fn files(folder: &std::path::Path) -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            all.extend(files(&path));
        } else {
            all.push((path.display().to_string(), std::fs::read(&path).unwrap()));
        }
    }
    all
}

/// Input tokens that a metered vendor reports: as OpenAI counts them, with a frame of four around every message, and a
/// token for each two bytes, which no text comes to.
fn input(body: &Value) -> u64 {
    let messages = body["messages"].as_array().cloned().unwrap_or_default();
    let bytes: usize = messages.iter().map(|m| m["content"].as_str().map_or(0, str::len)).sum();
    3 + 4 * messages.len() as u64 + bytes.div_ceil(2) as u64
}

/// Output tokens of an answer whose length nobody limits.
const OUTPUT: u64 = 1_000;

/// Lets a vendor answer `text(request)` after `delay`, as long as it is allowed to be: `max_tokens` (at most a
/// thousand) out, and in what came in. [`spent`] says what that costs.
pub fn metered(
    vendor: &Vendor,
    delay: Duration,
    text: impl Fn(&crate::vendor::Seen) -> &'static str + Send + Sync + 'static,
) {
    vendor.otherwise(move |seen| {
        let most = output(&seen.body);
        Reply::text(text(seen))
            .costing(u32::try_from(input(&seen.body)).unwrap(), u32::try_from(most).unwrap())
            .slow(delay)
    });
}

fn output(body: &Value) -> u64 {
    let most = body["max_tokens"].as_u64().or_else(|| body["max_completion_tokens"].as_u64());
    most.unwrap_or(OUTPUT).min(OUTPUT)
}

/// What the calls that reached a [`metered`] vendor cost at most, in dollars, at 1 USD per million tokens. A call
/// that was cancelled counts as if it had been answered to its end.
#[must_use]
pub fn spent(vendor: &Vendor) -> f64 {
    vendor.seen().iter().map(|s| (input(&s.body) + output(&s.body)) as f64 / 1e6).sum()
}

/// What came of a race.
#[derive(Debug)]
pub struct Race {
    /// The status of every answer.
    pub statuses: Vec<u16>,
    /// The budget, in dollars.
    pub budget: f64,
    /// What was spent of it in the race, in dollars, as [`spent`] counts.
    pub raced: f64,
    /// And after as many further requests, one by one, as it takes until nothing fits any more.
    pub spent: f64,
}

impl Race {
    /// Sends `bodies` at the same moment with one key of a tenant that may spend `budget` dollars a month, and then
    /// one after the other until the budget is used up; whatever the trees of the requests do (samples, items of a
    /// map, repairs, hedges), no vendor may have been asked for more.
    pub async fn run(house: &House, vendors: &[&Vendor], budget: f64, bodies: Vec<Value>) -> Race {
        let key = Race::racer(house, Race::limits(budget)).await;
        Race::with(house, vendors, budget, &key, bodies).await
    }

    /// The limits of a tenant that may spend `budget` dollars a month.
    #[must_use]
    pub fn limits(budget: f64) -> Value {
        json!([{"metric": "usd", "amount": budget, "per": "month"}])
    }

    /// A key of a new tenant that has these limits.
    pub async fn racer(house: &House, limits: Value) -> String {
        let admin = Admin::of(house);
        admin.tenant(json!({"id": "racer", "limits": limits})).await;
        admin.key(json!({"tenant": "racer", "limits": []})).await.1
    }

    /// The same with the key of a [`Race::racer`], of whose budget a part may be spent.
    pub async fn with(
        house: &House,
        vendors: &[&Vendor],
        budget: f64,
        key: &str,
        bodies: Vec<Value>,
    ) -> Race {
        let spent = || vendors.iter().map(|v| spent(v)).sum::<f64>();
        let again = bodies.first().cloned().unwrap_or_default();
        let mut tasks = JoinSet::new();
        for body in bodies {
            let (client, key) = (house.client(), key.to_owned());
            tasks.spawn(async move { send(client, &key, "/v1/chat/completions", &body).await.status });
        }
        let statuses = tasks.join_all().await;
        let raced = spent();
        // What a judge may cost who works after an answer is held back until it has spoken.
        let mut refused = 0;
        for _ in 0..80 {
            if send(house.client(), key, "/v1/chat/completions", &again).await.status == 200 {
                refused = 0;
            } else if refused < 5 {
                refused += 1;
                tokio::time::sleep(Duration::from_millis(100)).await;
            } else {
                break;
            }
        }
        Race { statuses, budget, raced, spent: spent() }
    }

    /// Asserts that the budget held, that some were served, and that the others were told why not.
    pub fn holds(&self) {
        let good = self.statuses.iter().filter(|s| **s == 200).count();
        assert!(self.statuses.iter().all(|s| [200, 422, 429].contains(s)), "{:?}", self.statuses);
        assert!((1..self.statuses.len()).contains(&good), "{good} of {}", self.statuses.len());
        assert!(self.raced <= self.budget + 1e-9, "{self:?}");
        assert!(self.spent <= self.budget + 1e-9, "{self:?}");
        // What was reserved and not used came back, so that most of it could be spent.
        assert!(self.spent > self.budget * 0.8, "{self:?}");
    }
}
