//! What the audit trail costs, as ratios to a plain file that takes the same bytes in as many lines and is as often made safe.

use crate::{Failure, say};
use gateway::audit_figures;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;
use tokio::time::Instant;

/// Prints a line per thing that is done with a trail.
pub(crate) fn run(lines: u64) -> Result<(), Failure> {
    let lines = lines.max(1);
    let dir = tempfile::tempdir()?;
    let trail = audit_figures(dir.path(), lines)?;
    let (written, read) = floor(&dir.path().join("floor"), (lines, trail.sealed_after), trail.bytes / lines)?;
    say(&format!("{lines} lines of {} bytes", trail.bytes / lines));
    for (what, took, floor) in [
        ("written and sealed", trail.written, written),
        ("verified", trail.verified, read),
        ("opened", trail.opened, read),
    ] {
        let each = |time: Duration| time.as_secs_f64() * 1e6 / lines as f64;
        let ratio = took.as_secs_f64() / floor.as_secs_f64().max(1e-9);
        say(&format!("{what:<20}{:9.2} us a line   floor {:7.2}   x{ratio:.1}", each(took), each(floor)));
    }
    Ok(())
}

/// How long it takes to write so many lines of that size, safe after so many of them, and to read them.
fn floor(path: &Path, (lines, safe_after): (u64, u64), size: u64) -> Result<(Duration, Duration), Failure> {
    let mut line = vec![b'x'; usize::try_from(size)?];
    line.push(b'\n');
    let begun = Instant::now();
    let mut file = File::create(path)?;
    for i in 1..=lines {
        file.write_all(&line)?;
        if i % safe_after == 0 || i == lines {
            file.sync_data()?;
        }
    }
    let written = begun.elapsed();
    let begun = Instant::now();
    let all = std::hint::black_box(std::fs::read(path)?);
    // Something has to look at each byte.
    std::hint::black_box(all.iter().filter(|b| **b == b'\n').count());
    Ok((written, begun.elapsed()))
}
