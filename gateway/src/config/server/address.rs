//! Addresses to listen on, as settings and flags give them.

use std::net::SocketAddr;
use types::doc::{Node, Reader};

/// What is written where the control API is not served.
pub const NOT_SERVED: &str = "none";

/// The address that a text names, `localhost` included; `None` = it names none.
#[must_use]
pub fn address(text: &str) -> Option<SocketAddr> {
    text.replace("localhost:", "127.0.0.1:").parse().ok()
}

/// Notes what a server would not listen on: it is told with everything else, and does not come up at the start.
pub(super) fn check(r: &mut Reader<'_>, node: &Node, key: &str, text: &str, loopback: bool) {
    if loopback && text == NOT_SERVED {
        return;
    }
    let host = if loopback { "127.0.0.1:8081" } else { "127.0.0.1:8080" };
    let (message, expected, hint) = match address(text) {
        None => {
            let port = text.trim_start_matches(':').parse::<u16>().ok();
            let expected = format!("address:port, such as {host}");
            let hint = port.map(|p| format!("write 127.0.0.1:{p}, or 0.0.0.0:{p} for every address"));
            (format!("`{text}` is no address to listen on"), expected, hint.filter(|_| !loopback))
        }
        Some(addr) if loopback && !addr.ip().is_loopback() => {
            let hint = "reach it from elsewhere through a tunnel".to_owned();
            let message = format!("`{text}` can be reached from other machines");
            (message, format!("an address of loopback, such as {host}, or none"), Some(hint))
        }
        Some(_) => return,
    };
    let d = r.error("104", node.span, message);
    (d.expected, d.hint) = (Some(expected), hint);
    key.clone_into(&mut d.field);
}

#[cfg(test)]
mod tests {
    use super::super::{Server, apply_environment, apply_file};
    use types::doc::SourceFile;

    #[test]
    fn what_a_server_would_not_listen_on_is_told_before_it_starts() {
        let problems = |text: &str| {
            let file = SourceFile::new("turnout.yaml", text);
            let found = apply_file(&mut Server::default(), &file);
            let told = found.iter().map(|d| format!("{} {}:{} {}", d.code, d.line, d.column, d.field));
            (told.collect::<Vec<_>>(), found.first().and_then(|d| d.hint.clone()).unwrap_or_default())
        };
        let (told, hint) = problems("listen: 8080\nadmin: { listen: 0.0.0.0:8081 }\n");
        assert_eq!(told, ["TS104 1:9 listen", "TS104 2:18 admin.listen"]);
        assert!(hint.contains("127.0.0.1:8080"), "{hint}");
        for wrong in
            ["listen: somewhere", "listen: none", "listen: example.org:80", "admin: { listen: 8081 }"]
        {
            assert_eq!(problems(wrong).0.len(), 1, "{wrong}");
        }
        for right in [
            "listen: 127.0.0.1:0",
            "listen: \"[::]:8080\"",
            "listen: 0.0.0.0:80",
            "listen: localhost:8080",
            "admin: { listen: none }",
            "admin: { listen: localhost:8081 }",
            "admin: { listen: \"[::1]:8081\" }",
        ] {
            assert_eq!(problems(right).0, [""; 0], "{right}");
        }
        let variable = [("TURNOUT_ADMIN__LISTEN".to_owned(), "10.0.0.1:80".to_owned())];
        assert_eq!(apply_environment(&mut Server::default(), &variable).len(), 1);
    }
}
