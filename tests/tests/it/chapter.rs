//! The chapter on policies tells the truth: every file it shows is loaded, checked and tested, every command run.

use std::collections::BTreeMap;
use std::path::Path;
use tests::folder::Folder;
use tests::house::cli;

/// A block of the page, by the comment above it.
struct Block {
    /// `file: path` or `run: folder`.
    says: String,
    text: String,
}

/// Every block with its comment; one without is an example that nobody runs.
fn blocks(page: &str) -> Vec<Block> {
    let mut found = Vec::new();
    let mut lines = page.lines().enumerate();
    let mut before = "";
    while let Some((number, line)) = lines.next() {
        if line.starts_with("```") {
            let says = before.strip_prefix("<!-- ").and_then(|c| c.strip_suffix(" -->"));
            let says = says.unwrap_or_else(|| panic!("line {}: a block that no test runs", number + 1));
            let text = lines
                .by_ref()
                .map(|(_, l)| l)
                .take_while(|l| *l != "```")
                .fold(String::new(), |all, l| all + l + "\n");
            found.push(Block { says: says.to_owned(), text });
        }
        before = line;
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn every_example_of_the_chapter_on_policies_does_what_it_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/policies.md");
    let page = std::fs::read_to_string(path).unwrap();
    let mut folders: BTreeMap<String, Folder> = BTreeMap::new();
    let mut run = 0;
    for Block { says, text } in blocks(&page) {
        if let Some(file) = says.strip_prefix("file: ") {
            let (folder, name) = file.split_once('/').unwrap();
            folders.entry(folder.to_owned()).or_default().write(name, &text);
            continue;
        }
        let of = says.strip_prefix("run: ").unwrap_or_else(|| panic!("{says}"));
        let (folder, fails) = of.split_once(", fails: ").map_or((of, None), |(f, e)| (f, Some(e)));
        let folder = &folders[folder];
        for line in text.lines() {
            let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            assert_eq!(words[0], "turnout", "{line}");
            // What stands beside the rules is named from their folder.
            let beside = |w: &String| match folder.path().join(w).is_file() {
                true => folder.path().join(w).display().to_string(),
                false => w.clone(),
            };
            let args: Vec<String> = words[1..].iter().map(beside).collect();
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            let output = cli(folder, &args).await;
            let said = String::from_utf8_lossy(&output.stdout).into_owned()
                + &String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.success(), fails.is_none(), "{of}: {line}\n{said}");
            if let Some(hint) = fails {
                assert!(said.contains(hint), "{line}\n{said}");
            }
            if line.contains("policy test") {
                assert!(!said.contains("0 cases"), "{of}: {line}\n{said}");
            }
            run += 1;
        }
    }
    assert!(run > 10, "the page shows commands");
}
