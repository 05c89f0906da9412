//! Paths that lead nowhere, and what whoever asked one of them was probably after.

use super::{ALL, of};
use crate::error::Failure;
use axum::http::{Method, Uri};
use types::printable::printable;

/// Most bytes of a path that are repeated.
const MOST: usize = 200;

/// Endpoints that the libraries of vendors have and this server has not: how their paths end, and what to do instead.
const ELSEWHERE: &[(&str, &str)] = &[
    (
        "/responses",
        "the Responses API is not served; have the library speak chat completions \
         (openai-agents: set_default_openai_api(\"chat_completions\"); AI SDK: openai.chat(…) or openai-compatible; \
         pydantic-ai: `openai-chat:`; LangChain: use_responses_api=False)",
    ),
    (
        "/messages",
        "requests in Anthropic's form are not served; point an OpenAI client at /v1/chat/completions, which reaches \
         Anthropic's models, too",
    ),
    ("/embeddings", "embeddings are not served; ask their vendor for them"),
    ("/moderations", "moderations are not served; ask their vendor for them"),
    ("/generations", "images are not served; ask their vendor for them"),
    ("/transcriptions", "audio is not served; ask its vendor for it"),
    ("/speech", "audio is not served; ask its vendor for it"),
    (
        "/completions",
        "completions without a chat are not served; the library has to use chat completions (LlamaIndex: \
         is_chat_model=True)",
    ),
];

/// Answers whoever asked for a path that there is not.
pub(crate) async fn no_route(method: Method, uri: Uri) -> Failure {
    let path = uri.path();
    let hint = hint(path).unwrap_or_else(|| format!("this server has {}", ALL.join(", ").replace("{*", "{")));
    Failure::not_found(format!("{method} {}: no such path; {hint}", printable(path, MOST)))
}

/// What to do instead, where that can be told from the path.
fn hint(path: &str) -> Option<String> {
    let known = |path: &str| of(path) != "none";
    let bare = path.trim_end_matches('/');
    if path != bare && known(bare) {
        return Some(format!("without the slash at its end it is {bare}"));
    }
    let versioned = format!("/v1{bare}");
    if known(&versioned) {
        return Some(format!("the base URL ends with /v1: {versioned}"));
    }
    if let Some(rest) = bare.strip_prefix("/v1")
        && known(rest)
    {
        return Some(format!("the base URL ends with one /v1: {rest}"));
    }
    let (_, elsewhere) =
        ELSEWHERE.iter().find(|(end, _)| bare.ends_with(end) && !bare.ends_with("/chat/completions"))?;
    Some((*elsewhere).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_libraries_are_told_what_to_do_instead() {
        for (path, part) in [
            ("/v1/responses", "set_default_openai_api"),
            ("/v1/messages", "OpenAI client"),
            ("/v1/embeddings", "embeddings are not served"),
            ("/v1/completions", "is_chat_model"),
            ("/v1/chat/completions/", "/v1/chat/completions"),
            ("/chat/completions", "ends with /v1: /v1/chat/completions"),
            ("/v1/v1/chat/completions", "one /v1: /v1/chat/completions"),
            ("/models", "/v1/models"),
        ] {
            assert!(hint(path).is_some_and(|hint| hint.contains(part)), "{path}: {:?}", hint(path));
        }
        for path in ["/", "/v2/nothing", "/openai/deployments/x/chat/completions", "/v1"] {
            assert_eq!(hint(path), None, "{path}");
        }
    }

    #[tokio::test]
    async fn the_path_is_named_as_it_was_asked() {
        let told = no_route(Method::POST, Uri::from_static("/v2/nothing")).await;
        assert!(
            told.message.starts_with("POST /v2/nothing: no such path; this server has /v1/chat"),
            "{}",
            told.message
        );
        assert!(told.message.contains("/v1/models/{id}"), "{}", told.message);
    }
}
