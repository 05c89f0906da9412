//! Lists of runs: what they show, and where the next page begins.

use super::{Head, State};

/// Most runs on one page of a list.
pub const PAGE: usize = 200;

/// Which runs a list shows; everything given must hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filter {
    /// Whose runs. There is no list over all tenants.
    pub tenant: String,
    /// In one of these states; empty = in any.
    pub states: Vec<State>,
    /// Of this workflow.
    pub workflow: Option<String>,
    /// With these labels.
    pub labels: Vec<(String, String)>,
    /// Asked for at this time (Unix milliseconds) or later.
    pub from_ms: Option<i64>,
    /// Asked for before this time.
    pub before_ms: Option<i64>,
    /// Only what comes after this place.
    pub after: Option<Cursor>,
    /// At most so many, and at most [`PAGE`].
    pub limit: usize,
}

/// Part of a list.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Page {
    /// Newest first.
    pub runs: Vec<Head>,
    /// Where the next page begins; `None` = there is none.
    pub next: Option<Cursor>,
}

/// A place in a list, newest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// When the last run shown was asked for.
    pub created_ms: i64,
    /// Its identifier.
    pub id: String,
}

impl Cursor {
    /// As clients see it: not to be read, only to be given back.
    #[must_use]
    pub fn write(&self) -> String {
        format!("{}.{}", self.created_ms, self.id)
    }

    /// Reads what [`Cursor::write`] gave; `None` = it is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Cursor> {
        let (created_ms, id) = text.split_once('.')?;
        let created_ms = created_ms.parse().ok()?;
        (!id.is_empty()).then(|| Cursor { created_ms, id: id.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_come_back_as_they_were() {
        let cursor = Cursor { created_ms: 1_795_219_200_123, id: "run_a.b".into() };
        assert_eq!(Cursor::parse(&cursor.write()), Some(cursor));
        for wrong in ["", "12", "x.run", "12."] {
            assert_eq!(Cursor::parse(wrong), None, "{wrong}");
        }
    }
}
