//! A disk that is nearly full: chat goes on, what has to be kept is refused, and readiness says so.

use serde_json::{Value, json};
use tests::admin::Admin;
use tests::house::{Model, Plan};
use tests::vendor::{Dialect, Reply, Vendor};

fn ask() -> Value {
    json!({"model": "auto", "messages": [{"role": "user", "content": "say hello"}]})
}

#[tokio::test(flavor = "multi_thread")]
async fn chat_goes_on_and_what_must_be_kept_is_refused() {
    for (settings, critical) in [
        ("disk: { low: 900000GiB, critical: 1MiB }", false),
        ("disk: { low: 1MiB, critical: 900000GiB }", true),
    ] {
        let vendor = Vendor::scripted(Dialect::OpenAi, |_| Reply::text("hello")).await;
        let plan = Plan::new().vendor("lab", &vendor).model(&Model::new("lab/one")).rules(crate::NO_CHANCE);
        let house = plan.settings(settings).start().await;
        let client = house.client();
        let answer = client.chat(&ask()).await;
        assert_eq!((answer.status, answer.content().as_str()), (200, "hello"));
        let ready = client.get("/readyz").await.json();
        let says = ready["degraded"].to_string();
        assert_eq!(ready["status"], "degraded", "{ready}");
        assert_eq!(says.contains("disk.critical"), critical, "{ready}");
        assert_eq!(says.contains("disk.low"), !critical, "{ready}");
        assert_eq!(says.contains("records wait in memory"), critical, "{ready}");

        let headers = [("content-type", "application/json")];
        let run = json!({"workflow": "default", "request": {"messages": ask()["messages"]}}).to_string();
        let run = client.send("POST", "/v1/runs", &headers, run.as_bytes()).await;
        let admin = Admin::of(&house);
        let tenant = admin.call("POST", "/tenants", &json!({"id": "acme"})).await;
        if critical {
            assert_eq!(run.error(503)["code"], "disk_full");
            assert!(run.header("retry-after").is_some());
            assert_eq!(tenant.error(503)["code"], "disk_full");
        } else {
            assert_eq!((run.status, tenant.status), (202, 201), "{} {}", run.text(), tenant.text());
        }
        assert_eq!(admin.call("GET", "/tenants", &Value::Null).await.status, 200);
    }
}
